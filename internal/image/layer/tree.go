package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// openDirectories is how many directories are kept open, besides those on the way to the current entry: the entries
// of an archive are mostly in a few directories at a time.
const openDirectories = 64

// inRoot has the kernel resolve a path as if a directory were the root, so that neither links nor ".." lead out of it
// (openat2(2)).
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// tree is the directory that a layer is unpacked into.
type tree struct {
	root      directory
	rootPath  string // as the kernel has it
	lowers    []int
	userXattr bool
	made      func() error // counts a directory

	// known are open directories by the paths that led to them. They are forgotten once a directory or link is
	// removed, by which another path may lead there.
	known map[string]directory
	stale bool

	times      []times
	timesNames int
	maxNames   int
}

// directory is an open directory and its path from the root, without links.
type directory struct {
	fd   int
	real string
}

// times are the times that a directory gets in the end.
type times struct {
	real         string
	atime, mtime unix.Timespec
}

// openTree opens the directories. made is called for each directory that is implied; maxNames bounds the memory for
// those whose times are set later.
func openTree(o Options, made func() error, maxNames int) (t *tree, err error) {
	t = &tree{root: directory{fd: -1}, userXattr: o.UserXattr, made: made, known: map[string]directory{}, maxNames: maxNames}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if t.root.fd, err = openDir(o.Dir); err != nil {
		return nil, err
	}
	if t.rootPath, err = os.Readlink(fdPath(t.root.fd)); err != nil {
		return nil, err
	}
	for _, dir := range o.Lowers {
		fd, err := openDir(dir)
		if err != nil {
			return nil, err
		}
		t.lowers = append(t.lowers, fd)
	}
	return t, nil
}

func openDir(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}

func (t *tree) close() {
	t.forget()
	for _, fd := range append(t.lowers, t.root.fd) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

func (t *tree) forget() {
	for _, d := range t.known {
		_ = unix.Close(d.fd)
	}
	clear(t.known)
	t.stale = false
}

func (t *tree) hasLowers() bool { return len(t.lowers) > 0 }

// failed is the error of a system call about a file of the tree.
func failed(op string, dir directory, base string, err error) error {
	return &fs.PathError{Op: op, Path: path.Join("/", dir.real, base), Err: err}
}

// open returns the directory that a path leads to, following links inside the tree. Missing directories are made, with
// the attributes that they have in the layers below. The directory stays open until the next call.
func (t *tree) open(name string) (directory, error) {
	if t.stale || len(t.known) > openDirectories {
		t.forget()
	}
	return t.resolve(name, 0)
}

// resolve is open; links counts the dangling links on the way.
func (t *tree) resolve(name string, links int) (directory, error) {
	if name == "" {
		return t.root, nil
	}
	if d, ok := t.known[name]; ok {
		return d, nil
	}
	d, err := t.lookup(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return t.imply(name, links)
	}
	if err == nil {
		t.known[name] = d
	}
	return d, err
}

// lookup opens an existing directory.
func (t *tree) lookup(name string) (directory, error) {
	fd, err := unix.Openat2(t.root.fd, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: inRoot})
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return directory{}, invalid("its directory: %w", err)
	case err != nil:
		return directory{}, failed("open", t.root, name, err)
	}
	real, err := t.realPath(fd)
	if err != nil {
		_ = unix.Close(fd)
		return directory{}, err
	}
	return directory{fd: fd, real: real}, nil
}

// realPath returns the path of an open directory from the root. The kernel has none for a directory that is too deep.
func (t *tree) realPath(fd int) (string, error) {
	full, err := os.Readlink(fdPath(fd))
	if errors.Is(err, unix.ENAMETOOLONG) {
		return "", errTooDeep
	}
	if err != nil {
		return "", err
	}
	real, ok := strings.CutPrefix(full, t.rootPath)
	if !ok || real != "" && real[0] != '/' {
		return "", fmt.Errorf("directory %s is not below %s", full, t.rootPath)
	}
	return strings.TrimPrefix(real, "/"), checkDepth(real)
}

var errTooDeep = invalid("its directory is deeper than a path of %d bytes", maxPath)

// checkDepth bounds the depth of the tree, which links would otherwise let grow beyond the length of any name.
func checkDepth(real string) error {
	if len(real) > maxPath {
		return errTooDeep
	}
	return nil
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// namePath is a path of a file for system calls that take no directory.
func namePath(dir directory, base string) string { return fdPath(dir.fd) + "/" + base }

// imply makes a directory that the layer has no entry for (yet).
func (t *tree) imply(name string, links int) (directory, error) {
	parentName, base := split(name)
	parent, err := t.resolve(parentName, links)
	if err != nil {
		return directory{}, err
	}
	kind, err := kindOf(parent, base)
	if err != nil {
		return directory{}, err
	}
	switch kind {
	case isLink:
		target, err := os.Readlink(namePath(parent, base))
		if err != nil {
			return directory{}, err
		}
		if links == maxLinks {
			return directory{}, invalid("its directory is behind more than %d links", maxLinks)
		}
		if !path.IsAbs(target) {
			target = parent.real + "/" + target
		}
		return t.resolve(clean(target), links+1)
	case isMissing, isWhiteout:
		return t.implied(parent, base, name)
	case isDirectory:
		return t.child(parent, base, name)
	}
	return directory{}, invalid("%s is not a directory", shown(path.Join(parent.real, base)))
}

// implied makes the directory base and gives it the attributes that it has in the layers below.
func (t *tree) implied(parent directory, base, name string) (directory, error) {
	if err := t.made(); err != nil {
		return directory{}, err
	}
	hidden, err := t.makeDirectory(parent, base)
	if err != nil {
		return directory{}, err
	}
	if err := unix.Fchmodat(parent.fd, base, 0o755, 0); err != nil {
		return directory{}, failed("chmod", parent, base, err)
	}
	d, err := t.child(parent, base, name)
	if err != nil || hidden {
		return d, err
	}
	return d, t.inherit(parent, base, d.real)
}

// makeDirectory makes the directory base, in the place of whatever else is there. In the place of a whiteout the new
// directory hides what the layers below have.
func (t *tree) makeDirectory(parent directory, base string) (hidden bool, err error) {
	err = t.place(parent, base, &hidden, func() error { return unix.Mkdirat(parent.fd, base, 0o700) })
	if err != nil || !hidden {
		return hidden, err
	}
	return true, t.hideLower(parent, base)
}

// child opens the directory base, which is not a link, and keeps it as the one that name leads to.
func (t *tree) child(parent directory, base, name string) (directory, error) {
	real := strings.TrimPrefix(parent.real+"/"+base, "/")
	if err := checkDepth(real); err != nil {
		return directory{}, err
	}
	fd, err := unix.Openat(parent.fd, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return directory{}, failed("open", parent, base, err)
	}
	d := directory{fd: fd, real: real}
	if old, ok := t.known[name]; ok {
		_ = unix.Close(old.fd)
	}
	t.known[name] = d
	return d, nil
}

// inherit copies owner, mode, times and extended attributes of a directory from the uppermost layer below that has it.
func (t *tree) inherit(parent directory, base, real string) error {
	for _, lower := range t.lowers {
		fd, err := unix.Openat2(lower, real, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: inRoot})
		switch {
		case errors.Is(err, unix.ENOENT):
			continue
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return nil // that layer has something else there, or removed it
		case err != nil:
			return failed("open", directory{}, real, err)
		}
		defer unix.Close(fd)
		return t.copyAttributes(fd, parent, base, real)
	}
	return nil
}

func (t *tree) copyAttributes(from int, parent directory, base, real string) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return failed("stat", directory{}, real, err)
	}
	if err := owner(parent, base, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := copyXattrs(from, namePath(parent, base), t.userXattr); err != nil {
		return err
	}
	if err := unix.Fchmodat(parent.fd, base, st.Mode&0o7777, 0); err != nil {
		return failed("chmod", parent, base, err)
	}
	return t.setLater(real, st.Atim, st.Mtim)
}

// place makes base with create, after the removal of whatever is there. hides, which may be nil, is set when that was a
// whiteout.
func (t *tree) place(parent directory, base string, hides *bool, create func() error) error {
	err := create()
	if errors.Is(err, unix.EEXIST) {
		kind, err := kindOf(parent, base)
		if err != nil {
			return err
		}
		if hides != nil {
			*hides = kind == isWhiteout
		}
		if err := t.remove(parent, base, kind); err != nil {
			return err
		}
		if err := create(); err != nil {
			return failed("create", parent, base, err)
		}
		return nil
	}
	if err != nil {
		return failed("create", parent, base, err)
	}
	return nil
}

func (t *tree) remove(parent directory, base string, kind kind) error {
	t.stale = t.stale || kind == isDirectory || kind == isLink
	if kind == isDirectory {
		return os.RemoveAll(namePath(parent, base))
	}
	if err := unix.Unlinkat(parent.fd, base, 0); err != nil {
		return failed("remove", parent, base, err)
	}
	return nil
}

// hideLower has overlayfs hide the entries that a directory has in the layers below («opaque» in
// Documentation/filesystems/overlayfs.rst of the kernel).
func (t *tree) hideLower(parent directory, base string) error {
	if !t.hasLowers() {
		return nil
	}
	attribute := "trusted.overlay.opaque"
	if t.userXattr {
		attribute = "user.overlay.opaque"
	}
	if err := unix.Setxattr(namePath(parent, base), attribute, []byte("y"), 0); err != nil {
		return failed("setxattr "+attribute, parent, base, err)
	}
	return nil
}

// setLater notes the times of a directory for setTimes.
func (t *tree) setLater(real string, atime, mtime unix.Timespec) error {
	const besides = 64 // of memory
	if t.timesNames += len(real) + besides; t.timesNames > t.maxNames {
		return invalid("the names of the layer's directories take more than %d bytes", t.maxNames)
	}
	t.times = append(t.times, times{real: strings.Clone(real), atime: atime, mtime: mtime})
	return nil
}

// setTimes sets the noted times of directories. Those that were replaced meanwhile are passed over.
func (t *tree) setTimes() error {
	t.forget()
	for _, d := range t.times {
		how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: inRoot | unix.RESOLVE_NO_SYMLINKS}
		fd, err := unix.Openat2(t.root.fd, d.real, how)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return failed("open", t.root, d.real, err)
		}
		err = unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(fd), []unix.Timespec{d.atime, d.mtime}, 0)
		_ = unix.Close(fd)
		if err != nil {
			return failed("utimes", t.root, d.real, err)
		}
	}
	return nil
}

// kind is what a name stands for.
type kind int

const (
	isMissing kind = iota
	isDirectory
	isLink
	isWhiteout
	isFile
	isOther
)

// kindOf reports what a name in a directory stands for, without following links.
func kindOf(dir directory, base string) (kind, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return isMissing, nil
	}
	if err != nil {
		return isOther, failed("stat", dir, base, err)
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return isDirectory, nil
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return isLink, nil
	case st.Mode&unix.S_IFMT == unix.S_IFREG:
		return isFile, nil
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
		return isWhiteout, nil
	}
	return isOther, nil
}
