package stats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Use is what files take on disk.
type Use struct {
	At            time.Time
	Bytes, Inodes uint64
}

// maxDepth is how deep folders are counted: each takes a descriptor. Nobody can name a file that is much deeper.
const maxDepth = 1000

// ErrDeep is that folders were nested more deeply than they are counted: the use is that of the rest.
var ErrDeep = fmt.Errorf("some folders are more than %d deep", maxDepth)

// batch is how many entries of a folder are read at once.
const batch = 256

// DiskUse counts what a file, or a folder with all that is in it, takes on its file system. Whoever fills the folder
// may do what they like meanwhile: no link is followed, and what is gone is not counted. A file with several names
// counts once.
func DiskUse(ctx context.Context, path string, now time.Time) (Use, error) {
	c := &counter{ctx: ctx, use: Use{At: now}}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Use{}, fmt.Errorf("count the files in %s: %w", path, err)
	}
	c.device = st.Dev
	c.add(&st)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := c.folder(unix.AT_FDCWD, path, 0); err != nil {
			return c.use, fmt.Errorf("count the files in %s: %w", path, err)
		}
	}
	if c.deep {
		return c.use, fmt.Errorf("count the files in %s: %w", path, ErrDeep)
	}
	return c.use, nil
}

// counter counts the files of one tree.
type counter struct {
	ctx    context.Context
	device uint64
	use    Use
	// names are the files that have several names and were counted.
	names map[uint64]bool
	// deep is that something was too deep to be counted.
	deep bool
}

func (c *counter) add(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if c.names[st.Ino] {
			return
		}
		if c.names == nil {
			c.names = map[uint64]bool{}
		}
		c.names[st.Ino] = true
	}
	c.use.Bytes += uint64(st.Blocks) * 512 // of whatever size the file system's blocks are: stat(2)
	c.use.Inodes++
}

// file counts a file, unless it is gone.
func (c *counter) file(path string) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		c.add(&st)
	}
}

// folder counts what is in a folder.
func (c *counter) folder(parent int, name string, depth int) error {
	if depth == maxDepth {
		c.deep = true
		return nil
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if gone(err) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	for {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		entries, err := dir.ReadDir(batch)
		for _, e := range entries {
			if err := c.entry(fd, e.Name(), depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !gone(err) {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
	}
}

func (c *counter) entry(parent int, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	if gone(err) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Dev != c.device {
		return nil
	}
	c.add(&st)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return c.folder(parent, name, depth+1)
	}
	return nil
}

// gone reports that what was there just now is not, or is no folder any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
