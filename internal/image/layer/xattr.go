package layer

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// paxXattr begins the PAX records that are extended attributes.
const paxXattr = "SCHILY.xattr."

// xattrs sets the extended attributes of an entry. Those that the file system or the kind of file cannot have are left
// out, as is what belongs to overlayfs.
func (a *applier) xattrs(dir directory, base string, kind kind, records map[string]string) error {
	names := 0
	for record, value := range records {
		name, ok := strings.CutPrefix(record, paxXattr)
		if !ok || a.tree.isReserved(name) {
			continue
		}
		names += len(name) + 1
		switch {
		case len(name) > maxXattrName || len(value) > maxXattrValue:
			return invalid("its extended attribute %s has %d bytes; %d are allowed", shown(name), len(value), maxXattrValue)
		case names > maxXattrNames:
			return invalid("the names of its extended attributes take more than %d bytes", maxXattrNames)
		case strings.HasPrefix(name, "user.") && kind != isFile && kind != isDirectory:
			continue // xattr(7)
		}
		if err := a.room.Claim(int64(len(value))); err != nil {
			return err
		}
		if err := a.room.Wrote(int64(len(value))); err != nil {
			return err
		}
		err := unix.Lsetxattr(namePath(dir, base), name, []byte(value), 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return failed("setxattr "+name, dir, base, err)
		}
	}
	return nil
}

// isReserved reports whether an attribute is for the kernel's use: overlayfs keeps its marks there.
func (t *tree) isReserved(name string) bool {
	return strings.HasPrefix(name, "trusted.") || t.userXattr && strings.HasPrefix(name, "user.overlay.")
}

// copyXattrs copies extended attributes from an open directory, except the marks of overlayfs.
func copyXattrs(from int, to string, userXattr bool) error {
	names, err := listXattrs(from)
	if err != nil {
		return &fs.PathError{Op: "listxattr", Path: to, Err: err}
	}
	var value []byte
	for _, name := range names {
		if strings.HasPrefix(name, "trusted.") || userXattr && strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		if value == nil {
			value = make([]byte, maxXattrValue)
		}
		n, err := unix.Fgetxattr(from, name, value)
		if err == nil {
			err = unix.Setxattr(to, name, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENODATA) {
			return &fs.PathError{Op: "copy the extended attribute " + name, Path: to, Err: err}
		}
	}
	return nil
}

func listXattrs(fd int) ([]string, error) {
	size, err := unix.Flistxattr(fd, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, size)
	if size, err = unix.Flistxattr(fd, list); err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(list[:size]), func(r rune) bool { return r == 0 }), nil
}
