package static

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/safeopen"
)

const (
	// vanishGrace is how long a file that went away is waited for: editors put a file aside and write it again.
	vanishGrace = 300 * time.Millisecond
	// writeQuiet is after how long without a change a file counts as written though it was not closed.
	writeQuiet = 5 * time.Second
)

// folder knows what the manifests of a folder say. What it knows of a file it reads once a version.
type folder struct {
	config Config
	files  map[string]*file
	// writing are the files that someone writes to, by name.
	writing map[string]bool
	// clashes are the Pods and objects told to be in two files, so that it is told once.
	clashes map[string]bool
}

// file is one manifest as it was last read.
type file struct {
	version version
	// said is what it said when it could last be read, broken that it could not since.
	said   content
	broken bool
	// pods are those that run: what it says, or while something is wrong with it those of the version before,
	// until the next slow look.
	pods []*v1.Pod
	// failure is what is wrong with it, told the part of it that was reported.
	failure, told string
	// missing is since when it is not there; zero for a file that is.
	missing time.Time
}

// version tells two contents of a file apart.
type version struct {
	device, inode    uint64
	size             int64
	modified, change time.Time
}

func versionOf(info fs.FileInfo) version {
	v := version{size: info.Size(), modified: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v.device, v.inode = st.Dev, st.Ino
		v.change = time.Unix(st.Ctim.Unix())
	}
	return v
}

func newFolder(c Config) *folder {
	return &folder{config: c, files: map[string]*file{}, writing: map[string]bool{}, clashes: map[string]bool{}}
}

// passedOver reports names that are no manifests: hidden ones, and what editors put next to a file.
func passedOver(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") ||
		(strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#")) ||
		slices.Contains([]string{".swp", ".swo", ".swx", ".tmp", ".bak", ".orig"}, filepath.Ext(name))
}

// names are the manifests that the configured path holds, in order.
func (f *folder) names() (dir string, names []string, err error) {
	info, err := os.Stat(f.config.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return f.config.Path, nil, nil
	}
	switch {
	case err != nil:
		return "", nil, err
	case info.Mode().IsRegular():
		return filepath.Dir(f.config.Path), []string{filepath.Base(f.config.Path)}, nil
	case !info.IsDir():
		return "", nil, errors.New("path is not a directory or file")
	}
	entries, err := os.ReadDir(f.config.Path)
	for _, e := range entries {
		if !passedOver(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return f.config.Path, names, err
}

// look reads what is new and returns all that the folder holds. A slow look takes nothing on trust: a file
// that is broken gives up the Pods that it had before. again is when to look again though nothing is told, 0 for
// never.
func (f *folder) look(now time.Time, slow bool) (all content, again time.Duration, err error) {
	dir, names, err := f.names()
	if err != nil {
		return all, 0, err
	}
	there := map[string]bool{}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if f.read(path, name, now, slow) {
			there[path] = true
		}
	}
	for path, known := range f.files {
		switch {
		case there[path]:
			known.missing = time.Time{}
		case known.missing.IsZero():
			known.missing, again = now, vanishGrace
		case now.Sub(known.missing) >= vanishGrace:
			delete(f.files, path)
			delete(f.writing, filepath.Base(path))
		default:
			again = vanishGrace
		}
	}
	return f.resolve(slow), again, nil
}

// read brings what is known of a file up to date and reports whether it is there.
func (f *folder) read(path, name string, now time.Time, slow bool) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if !info.Mode().IsRegular() {
		if slow {
			klog.V(2).InfoS("Passed over in the folder of static pods: not a file", "path", path)
		}
		return false
	}
	known := f.files[path]
	if f.writing[name] && now.Sub(info.ModTime()) < writeQuiet {
		return true
	}
	v := versionOf(info)
	switch {
	case known != nil && known.version == v:
		return true
	case info.Size() == 0 && !slow:
		// Made just now: its content is on its way.
		return true
	case known == nil:
		known = &file{}
		f.files[path] = known
	}
	known.version, known.told = v, ""
	f.parse(path, known)
	return true
}

// parse reads a file again. Of one that cannot be read, what was known of it is kept.
func (f *folder) parse(path string, known *file) {
	text, err := readBounded(path)
	var said content
	if err == nil {
		said, err = f.config.parse(text, SourceFile, path)
	}
	if known.broken = err != nil; !known.broken {
		known.said = said
		return
	}
	if known.failure = err.Error(); errors.Is(err, fs.ErrNotExist) {
		known.told = known.failure // it went away: nobody need be told
	}
}

func readBounded(path string) ([]byte, error) {
	content, err := safeopen.Read(maxManifest)(safeopen.Following(path))
	if errors.Is(err, safeopen.ErrTooLarge) {
		err = fmt.Errorf("it is larger than %d bytes", maxManifest)
	}
	return content, err
}

// resolve brings together what all files say. Of two things with a name, the one in the first file counts.
func (f *folder) resolve(slow bool) (all content) {
	paths := slices.Sorted(maps.Keys(f.files))
	told := f.clashes
	f.clashes = map[string]bool{}
	have := map[objectName]runtime.Object{}
	from := map[string]string{}
	for _, path := range paths {
		for _, object := range f.files[path].said.objects {
			name := nameOfObject(object)
			if f.first(from, name.String(), path, told) {
				have[name] = object
				all.objects = append(all.objects, object)
			}
		}
	}
	for _, path := range paths {
		known := f.files[path]
		f.settle(path, known, have, slow)
		for _, pod := range known.pods {
			if f.first(from, "Pod "+pod.Namespace+"/"+pod.Name, path, told) {
				all.pods = append(all.pods, pod)
			}
		}
	}
	return all
}

// settle decides which Pods of a file run, and tells of what is wrong with it.
func (f *folder) settle(path string, known *file, have map[objectName]runtime.Object, slow bool) {
	if !known.broken {
		known.failure = ""
		for _, pod := range known.said.pods {
			if err := checkReferences(pod, have); err != nil {
				known.failure = fmt.Sprintf("pod %s/%s: %v", pod.Namespace, pod.Name, err)
				break
			}
		}
	}
	switch {
	case known.failure == "":
		known.pods = known.said.pods
	case slow:
		known.pods = nil
	}
	if known.told == known.failure {
		return
	}
	if known.told = known.failure; known.failure != "" {
		klog.ErrorS(errors.New(known.failure), "Could not process manifest file", "path", path)
		f.config.warn("can't process config file %q: %v", path, known.failure)
	}
}

// first reports whether a thing is the first of its name, and tells of one that is not; from are the files of
// the names so far.
func (f *folder) first(from map[string]string, name, path string, told map[string]bool) bool {
	before, taken := from[name]
	if !taken {
		from[name] = path
		return true
	}
	clash := name + " " + path
	f.clashes[clash] = true
	if !told[clash] {
		klog.ErrorS(nil, "Two manifests of static pods have a thing of one name, the first one counts", "name", name, "first", before, "second", path)
		f.config.warn("static %s in %q is passed over: %q has one of that name", name, path, before)
	}
	return false
}
