package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// A projected volume is a folder of links:
//
//	name      → ..data/name
//	..data    → ..2006_01_02_15_04_05.123456
//	..2006_…/name
//
// A new content gets a new dated folder, and ..data is turned to it by a rename: whoever reads through a
// link sees the old files or the new ones, all of a kind. Containers watch ..data for the turn, so its name
// is part of the interface.
const (
	dataLink  = "..data"
	newLink   = "..data_tmp"
	dateStamp = "..2006_01_02_15_04_05."

	maxPath     = 4096
	maxFileName = 255
)

// writeAtomic makes files the content of dir. The new folder is given to its owner before it is shown.
func writeAtomic(dir string, files payload, now time.Time, own func(dir string) error) error {
	files, err := cleanPaths(files)
	if err != nil {
		return err
	}
	current, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if current == "" || !holds(filepath.Join(dir, current), files) {
		if current, err = writeNew(dir, files, now, own); err != nil {
			return err
		}
	}
	links, err := linkFiles(dir, files)
	if err != nil {
		return err
	}
	return sweep(dir, links, current)
}

// cleanPaths refuses paths that would leave the folder or take the place of its own entries.
func cleanPaths(files payload) (payload, error) {
	clean := payload{}
	for p, f := range files {
		switch {
		case p == "":
			return nil, fmt.Errorf("invalid path: must not be empty: %q", p)
		case path.IsAbs(p):
			return nil, fmt.Errorf("invalid path: must be relative path: %s", p)
		case len(p) > maxPath:
			return nil, fmt.Errorf("invalid path: must be less than or equal to %d characters", maxPath)
		}
		for i, part := range strings.Split(p, "/") {
			switch {
			case part == "..":
				return nil, fmt.Errorf("invalid path: must not contain '..': %s", p)
			case i == 0 && strings.HasPrefix(part, ".."):
				return nil, fmt.Errorf("invalid path: must not start with '..': %s", p)
			case len(part) > maxFileName:
				return nil, fmt.Errorf("invalid path: filenames must be less than or equal to %d characters", maxFileName)
			}
		}
		clean[path.Clean(p)] = f
	}
	return clean, nil
}

// holds reports whether a dated folder has just these files with this content.
func holds(dir string, files payload) bool {
	found := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found++
		}
		return err
	})
	if err != nil || found != len(files) {
		return false
	}
	for p, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, p))
		if err != nil || !bytes.Equal(content, f.data) {
			return false
		}
	}
	return true
}

// writeNew writes files into a new dated folder, turns ..data to it and returns its name.
func writeNew(dir string, files payload, now time.Time, own func(string) error) (string, error) {
	dated, err := os.MkdirTemp(dir, now.UTC().Format(dateStamp))
	if err != nil {
		return "", err
	}
	err = os.Chmod(dated, 0o755)
	for p, f := range files {
		if err == nil {
			err = writeFile(dated, p, f)
		}
	}
	if err == nil {
		err = own(dated)
	}
	name, link := filepath.Base(dated), filepath.Join(dir, newLink)
	if err == nil {
		// One of an earlier run that was cut off in between.
		_ = os.Remove(link)
		err = os.Symlink(name, link)
	}
	if err == nil {
		err = os.Rename(link, filepath.Join(dir, dataLink))
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dated))
	}
	return name, nil
}

func writeFile(dir, p string, f file) error {
	full := filepath.Join(dir, p)
	if err := makeFolders(dir, path.Dir(p)); err != nil {
		return err
	}
	if err := os.WriteFile(full, f.data, 0o600); err != nil {
		return err
	}
	// Mode and owner are set apart from the creation, which the process' umask would have a say in.
	if err := os.Chmod(full, fileMode(f.mode)); err != nil {
		return err
	}
	if f.user == nil {
		return nil
	}
	return os.Lchown(full, int(*f.user), -1)
}

// makeFolders makes the folders of a path below dir, for all to pass through.
func makeFolders(dir, p string) error {
	if p == "." {
		return nil
	}
	if err := makeFolders(dir, path.Dir(p)); err != nil {
		return err
	}
	full := filepath.Join(dir, p)
	if err := os.Mkdir(full, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	return os.Chmod(full, 0o755)
}

func firstPart(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

// linkOf returns the link by which containers see a file: right in dir, or in a folder of dir's own (see makeNested)
// on the way to the file; and where it leads to.
func linkOf(dir, p string) (link, target string) {
	up := ""
	for end := strings.IndexByte(p, '/'); end >= 0; {
		if !isFolder(filepath.Join(dir, p[:end])) {
			return p[:end], path.Join(up, dataLink, p[:end])
		}
		up += "../"
		next := strings.IndexByte(p[end+1:], '/')
		if next < 0 {
			break
		}
		end += 1 + next
	}
	return p, path.Join(up, dataLink, p)
}

// linkFiles makes the links by which containers see the files, and returns them.
func linkFiles(dir string, files payload) (links map[string]bool, err error) {
	links = map[string]bool{}
	for p, f := range files {
		name, target := linkOf(dir, p)
		links[name] = true
		link := filepath.Join(dir, name)
		if _, err := os.Readlink(link); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Symlink(target, link); err != nil {
			return nil, err
		}
		if f.user != nil {
			if err := os.Lchown(link, int(*f.user), -1); err != nil {
				return nil, err
			}
		}
	}
	return links, nil
}

// sweep removes links to files that are no more, and every dated folder but the current one.
func sweep(dir string, links map[string]bool, current string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range entries {
		switch {
		case e.Name() == dataLink || e.Name() == current:
		case strings.HasPrefix(e.Name(), ".."):
			failed = append(failed, os.RemoveAll(filepath.Join(dir, e.Name())))
		default:
			failed = append(failed, sweepLinks(dir, e.Name(), e.Type(), links))
		}
	}
	return errors.Join(failed...)
}

// sweepLinks removes an entry that is a link to a file that is no more, or such links in it.
func sweepLinks(dir, name string, kind fs.FileMode, links map[string]bool) error {
	full := filepath.Join(dir, name)
	switch {
	case kind == fs.ModeSymlink && !links[name]:
		if target, err := os.Readlink(full); err == nil && strings.Contains("/"+target, "/"+dataLink+"/") {
			return os.Remove(full)
		}
	case kind.IsDir():
		entries, err := os.ReadDir(full)
		if err != nil {
			return err
		}
		var failed []error
		for _, e := range entries {
			failed = append(failed, sweepLinks(dir, path.Join(name, e.Name()), e.Type(), links))
		}
		return errors.Join(failed...)
	}
	return nil
}
