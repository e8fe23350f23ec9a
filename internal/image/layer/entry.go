package layer

import (
	"archive/tar"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// make makes an entry in a directory. It replaces whatever has its name; a directory is merged into a directory.
func (a *applier) make(dir directory, base string, h *tar.Header, data io.Reader) error {
	kind := isOther
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		kind, err = isDirectory, a.directory(dir, base, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		kind, err = isFile, a.file(dir, base, h.Size, data)
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return invalid("the link has no target")
		}
		kind = isLink
		err = a.tree.place(dir, base, nil, func() error { return unix.Symlinkat(h.Linkname, dir.fd, base) })
	case tar.TypeLink:
		kind, err = a.hardLink(dir, base, h.Linkname)
	case tar.TypeChar:
		err = a.node(dir, base, unix.S_IFCHR, h)
	case tar.TypeBlock:
		err = a.node(dir, base, unix.S_IFBLK, h)
	case tar.TypeFifo:
		err = a.node(dir, base, unix.S_IFIFO, h)
	default:
		return invalid("it is of the unknown type %q", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return a.attributes(dir, base, kind, h)
}

func (a *applier) directory(dir directory, base string, h *tar.Header) error {
	kind, err := kindOf(dir, base)
	if err != nil {
		return err
	}
	if kind != isDirectory {
		if _, err := a.tree.makeDirectory(dir, base); err != nil {
			return err
		}
	}
	real := strings.TrimPrefix(dir.real+"/"+base, "/")
	if err := checkDepth(real); err != nil {
		return err
	}
	atime, mtime := timesOf(h)
	return a.tree.setLater(real, atime, mtime)
}

func (a *applier) node(dir directory, base string, kind uint32, h *tar.Header) error {
	device := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	return a.tree.place(dir, base, nil, func() error { return unix.Mknodat(dir.fd, base, kind, int(device)) })
}

// hardLink links to a file that the layer has. Links in the directory of the target are followed inside the tree; a
// target that is a link itself is not.
func (a *applier) hardLink(dir directory, base, target string) (kind, error) {
	parent, name := split(clean(target))
	if name == "" {
		return isOther, invalid("a hard link to the root")
	}
	from, err := a.tree.find(parent)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return isOther, invalid("a hard link to %s, which the layer does not have", shown(target))
	}
	if err != nil {
		return isOther, err
	}
	kind, err := kindOf(from, name)
	switch {
	case err != nil:
		return isOther, err
	case kind == isMissing || kind == isWhiteout:
		return isOther, invalid("a hard link to %s, which the layer does not have", shown(target))
	case kind == isDirectory:
		return isOther, invalid("a hard link to the directory %s", shown(target))
	case from.real == dir.real && name == base:
		return isOther, invalid("a hard link to itself")
	}
	return kind, a.tree.place(dir, base, nil, func() error { return unix.Linkat(from.fd, name, dir.fd, base, 0) })
}

// find returns an existing directory. It stays open until the next call of open.
func (t *tree) find(name string) (directory, error) {
	if name == "" {
		return t.root, nil
	}
	if d, ok := t.known[name]; ok {
		return d, nil
	}
	d, err := t.lookup(name)
	if err == nil {
		t.known[name] = d
	}
	return d, err
}

// attributes sets owner, extended attributes, mode and times, in the order in which none undoes another: a change of
// the owner clears capabilities and setuid (chown(2)).
func (a *applier) attributes(dir directory, base string, kind kind, h *tar.Header) error {
	if err := owner(dir, base, h.Uid, h.Gid); err != nil {
		return err
	}
	if err := a.xattrs(dir, base, kind, h.PAXRecords); err != nil {
		return err
	}
	if kind != isLink {
		if err := unix.Fchmodat(dir.fd, base, uint32(h.Mode&0o7777), 0); err != nil {
			return failed("chmod", dir, base, err)
		}
	}
	if kind == isDirectory {
		return nil // see setTimes
	}
	atime, mtime := timesOf(h)
	if err := unix.UtimesNanoAt(dir.fd, base, []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failed("utimes", dir, base, err)
	}
	return nil
}

func owner(dir directory, base string, uid, gid int) error {
	if err := unix.Fchownat(dir.fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failed("chown", dir, base, err)
	}
	return nil
}

// timesOf returns the times of an entry. The time of access is not before that of the last change.
func timesOf(h *tar.Header) (atime, mtime unix.Timespec) {
	mtime = timeOf(h.ModTime.Unix(), h.ModTime.Nanosecond())
	if !h.AccessTime.After(h.ModTime) {
		return mtime, mtime
	}
	return timeOf(h.AccessTime.Unix(), h.AccessTime.Nanosecond()), mtime
}
