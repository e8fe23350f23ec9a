package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDepth is how deep removal goes with a file held open at each level. What is deeper is brought up first:
// a container can make folders deeper than a process may hold files.
const maxDepth = 100

// remover removes one tree.
type remover struct {
	// top is the folder that the tree is in, base the tree's name there.
	top  int
	base string
	// raised counts what was brought up to top.
	raised int
}

// removeTree removes a folder and all in it. What is mounted anywhere in it is unmounted first, so that
// nothing behind a mount is ever removed; no link is followed, whoever made it. One that is not there is no
// error. All is tried, and what failed is joined.
func removeTree(dir string) error {
	parent, err := unix.Open(filepath.Dir(dir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ignoreAbsent(&os.PathError{Op: "open", Path: filepath.Dir(dir), Err: err})
	}
	defer unix.Close(parent)
	r := &remover{top: parent, base: filepath.Base(dir)}
	failed := []error{r.remove(parent, r.base, dir, 0)}
	for n := 0; n < r.raised; n++ {
		name := r.raisedName(n)
		failed = append(failed, r.remove(parent, name, filepath.Join(filepath.Dir(dir), name), 0))
	}
	return errors.Join(failed...)
}

func (r *remover) raisedName(n int) string { return fmt.Sprintf("..%s-%d", r.base, n) }

// raisedFrom returns the tree that a folder was raised from, by its name.
func raisedFrom(name string) (base string, raised bool) {
	base, raised = strings.CutPrefix(name, "..")
	at := strings.LastIndexByte(base, '-')
	if !raised || at < 0 {
		return "", false
	}
	return base[:at], true
}

// remove removes one entry of the folder that parent holds; path is for messages.
func (r *remover) remove(parent int, name, path string, depth int) error {
	if err := unmountAll(parent, name); err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return &os.PathError{Op: "unlink", Path: path, Err: err}
	}
	if depth > maxDepth {
		r.raised++
		return unix.Renameat(parent, name, r.top, r.raisedName(r.raised-1))
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return ignoreAbsent(&os.PathError{Op: "open", Path: path, Err: err})
	}
	if err := r.empty(fd, path, depth); err != nil {
		return err
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil {
		return ignoreAbsent(&os.PathError{Op: "rmdir", Path: path, Err: err})
	}
	return nil
}

// empty removes what is in the folder that fd holds, and closes it.
func (r *remover) empty(fd int, path string, depth int) error {
	folder := os.NewFile(uintptr(fd), path)
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, r.remove(fd, name, path+"/"+name, depth+1))
	}
	return errors.Join(failed...)
}

// unmountAll unmounts what is mounted at an entry, one above the other.
func unmountAll(parent int, name string) error {
	for {
		mounted, err := isMountRoot(parent, name)
		if err != nil {
			return ignoreAbsent(err)
		}
		if !mounted {
			return nil
		}
		// By way of the held folder, so that no link can turn the path elsewhere in between.
		if err := unix.Unmount(fmt.Sprintf("/proc/self/fd/%d/%s", parent, name), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return err
		}
	}
}

func ignoreAbsent(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
