package static

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

const (
	// vanishGrace is how long a file that went away is waited for: editors put a file aside and write it anew.
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
	// clashes are the Pods told to be in two files, so that it is told once.
	clashes map[string]bool
}

// file is one manifest as it was last read.
type file struct {
	version version
	pods    []*v1.Pod
	// failure is why it cannot run; pods are then those of the version before, until the next slow look.
	failure string
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

// passedOver reports names that are no manifests: hidden ones, and what editors put beside a file.
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

// look reads what is new and answers with all Pods of the folder. A slow look takes nothing on trust: a file
// that is broken gives up what it was before. again is when to look again though nothing is told, 0 for never.
func (f *folder) look(now time.Time, slow bool) (pods []*v1.Pod, again time.Duration, err error) {
	dir, names, err := f.names()
	if err != nil {
		return nil, 0, err
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
	return f.pods(), again, nil
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
		if slow && known.failure != "" {
			known.pods = nil
		}
		return true
	case info.Size() == 0 && !slow:
		// Made just now: its content is on its way.
		return true
	case known == nil:
		known = &file{}
		f.files[path] = known
	}
	known.version = v
	f.parse(path, known, slow)
	return true
}

// parse reads a file anew.
func (f *folder) parse(path string, known *file, slow bool) {
	content, err := readBounded(path)
	var pods []*v1.Pod
	if err == nil {
		pods, err = f.config.parse(content, SourceFile, path)
	}
	if err == nil {
		known.pods, known.failure = pods, ""
		return
	}
	if slow {
		known.pods = nil
	}
	if known.failure = err.Error(); errors.Is(err, fs.ErrNotExist) {
		return
	}
	klog.ErrorS(err, "Could not process manifest file", "path", path)
	f.config.warn("can't process config file %q: %v", path, err)
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxManifest+1))
	if err == nil && len(content) > maxManifest {
		err = fmt.Errorf("it is larger than %d bytes", maxManifest)
	}
	return content, err
}

// pods are those of all files. Of two with a name, the one in the first file counts.
func (f *folder) pods() []*v1.Pod {
	var paths []string
	for path := range f.files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	var pods []*v1.Pod
	from := map[string]string{}
	clashes := map[string]bool{}
	for _, path := range paths {
		for _, pod := range f.files[path].pods {
			name := pod.Namespace + "/" + pod.Name
			if first, taken := from[name]; taken {
				clashes[name+" "+path] = true
				f.clash(name, first, path)
				continue
			}
			from[name] = path
			pods = append(pods, pod)
		}
	}
	f.clashes = clashes
	return pods
}

func (f *folder) clash(name, first, second string) {
	if f.clashes[name+" "+second] {
		return
	}
	klog.ErrorS(nil, "Static pod is in two manifests, the first one runs", "pod", name, "first", first, "second", second)
	f.config.warn("static pod %s in %q is passed over: %q has a pod of that name", name, second, first)
}
