package layer

import (
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

const (
	// checkBytes and checkNodes are how much is written, and how many files are made, between two looks at the disk.
	checkBytes = 16 << 20
	checkNodes = 4096
	// reservePart is the part of the disk, and of its inodes, that images leave free: a hundredth, so that the
	// databases and logs of the node can be written while images are being removed.
	reservePart = 100
	// maxReserve and maxReservedNodes are enough of a reserve on a large disk.
	maxReserve       = 256 << 20
	maxReservedNodes = 10_000
)

// Room watches that what is written to a file system leaves its reserve free. It is not safe for concurrent use.
type Room struct {
	path string
	look func() (space, error)
	// unclaimed is how much of the space that was free at the start is not spoken for.
	unclaimed int64
	// bytes and nodes were written since the last look.
	bytes int64
	nodes int
}

// space is what a file system has left beyond its reserve. Nodes is negative when the file system does not count them.
type space struct{ bytes, nodes int64 }

// NewRoom returns the Room of the file system that path is on.
func NewRoom(path string) (*Room, error) {
	return newRoom(path, func() (space, error) { return spaceAt(path) })
}

func newRoom(path string, look func() (space, error)) (*Room, error) {
	now, err := look()
	if err != nil {
		return nil, err
	}
	return &Room{path: path, look: look, unclaimed: max(0, now.bytes)}, nil
}

func spaceAt(path string) (space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return space{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	total, free := int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	out := space{bytes: free - min(total/reservePart, maxReserve), nodes: -1}
	if st.Files > 0 {
		out.nodes = max(0, int64(st.Ffree)-min(int64(st.Files)/reservePart, maxReservedNodes))
	}
	return out, nil
}

// Claim takes n bytes of the space that was free at the start. Its error wraps ENOSPC when there are not as many.
func (r *Room) Claim(n int64) error {
	if n > r.unclaimed {
		return r.full(fmt.Sprintf("%d bytes more do not fit into what was free on the disk", n))
	}
	r.unclaimed -= n
	return nil
}

// Wrote counts n bytes that were written. Its error wraps ENOSPC when only the reserve is left on the disk.
func (r *Room) Wrote(n int64) error {
	if r.bytes += n; r.bytes < checkBytes {
		return nil
	}
	return r.check()
}

// Made counts a file or directory that was made. Its error wraps ENOSPC when only the reserve is left on the disk.
func (r *Room) Made() error {
	if r.nodes++; r.nodes < checkNodes {
		return nil
	}
	return r.check()
}

// check looks at the disk.
func (r *Room) check() error {
	r.bytes, r.nodes = 0, 0
	now, err := r.look()
	switch {
	case err != nil:
		return err
	case now.bytes <= 0:
		return r.full("the disk has only its reserve left")
	case now.nodes == 0:
		return r.full("the disk has only its reserve of inodes left")
	}
	return nil
}

// full returns the error of a disk without room.
func (r *Room) full(why string) error {
	return fmt.Errorf("%s: %w", why, &fs.PathError{Op: "write", Path: r.path, Err: unix.ENOSPC})
}
