package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// owner is whom a volume's files belong to: the Pod's fsGroup, and where all its containers run as one user,
// that user.
type owner struct {
	group *int64
	user  *int64
	// readOnly is that the group may read only.
	readOnly bool
}

func ownerOf(pod *v1.Pod, readOnly bool) owner {
	o := owner{readOnly: readOnly, user: commonUser(pod)}
	if pod.Spec.SecurityContext != nil {
		o.group = pod.Spec.SecurityContext.FSGroup
	}
	return o
}

// commonUser is the user that every container of the Pod runs as, or nil.
func commonUser(pod *v1.Pod) *int64 {
	var common *int64
	same := true
	eachContainer(pod, func(c *v1.Container) {
		var user *int64
		if pod.Spec.SecurityContext != nil {
			user = pod.Spec.SecurityContext.RunAsUser
		}
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			user = c.SecurityContext.RunAsUser
		}
		if user == nil || (common != nil && *common != *user) {
			same = false
		}
		common = user
	})
	if !same {
		return nil
	}
	return common
}

// mode is the mode of an entry that belongs to the group, from its mode before.
func (o owner) mode(before uint32) uint32 {
	mask := uint32(0o660)
	if o.readOnly {
		mask = 0o440
	}
	if before&unix.S_IFMT == unix.S_IFDIR {
		mask |= unix.S_ISGID | 0o110
	}
	return (before | mask) & 0o7777
}

// take gives one entry to the group; a link is not followed.
func (o owner) take(path string) error {
	if o.group == nil {
		return nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	_, err = o.takeHandle(fd, path)
	return err
}

// takeHandle gives the entry that an O_PATH descriptor stands for to the group, and reports whether it is a folder.
// Containers that use the volume may put something else under the name meanwhile; the descriptor stays what it is.
func (o owner) takeHandle(fd int, name string) (folder bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if err := unix.Fchownat(fd, "", -1, int(*o.group), unix.AT_EMPTY_PATH); err != nil {
		return false, &fs.PathError{Op: "chown", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return false, nil
	}
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), o.mode(st.Mode)); err != nil {
		return false, &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// maxOwnedDepth is how deep folders are given to the group. Each level takes a descriptor, and containers decide how
// deep their volume is; a path that is much deeper has no name (PATH_MAX).
const maxOwnedDepth = 1000

// takeAll gives a folder and all in it to the group, the folder itself last: one that belongs to the group
// is done. What vanishes meanwhile is no error.
func (o owner) takeAll(dir string) error {
	if o.group == nil {
		return nil
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	if err := o.takeContent(fd, dir, 0); err != nil {
		return err
	}
	_, err = o.takeHandle(fd, dir)
	return err
}

// takeContent gives what is in a folder to the group; dir is an O_PATH descriptor, path is for messages.
func (o owner) takeContent(dir int, path string, depth int) error {
	if depth == maxOwnedDepth {
		return fmt.Errorf("give the files in %s to group %d: folders are nested more than %d deep", path, *o.group, maxOwnedDepth)
	}
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ignoreAbsent(err)
	}
	list := os.NewFile(uintptr(fd), path)
	defer list.Close()
	for {
		names, err := list.Readdirnames(nameBatch)
		for _, name := range names {
			if err := o.takeEntry(dir, name, filepath.Join(path, name), depth); err != nil {
				return err
			}
		}
		if err != nil {
			return ignoreEnd(err)
		}
	}
}

// nameBatch is how many names of a folder are held in memory at once.
const nameBatch = 256

func (o owner) takeEntry(dir int, name, path string, depth int) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return ignoreAbsent(err)
	}
	defer unix.Close(fd)
	folder, err := o.takeHandle(fd, path)
	if err != nil || !folder {
		return ignoreAbsent(err)
	}
	return o.takeContent(fd, path, depth+1)
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return ignoreAbsent(err)
}

// owns reports whether a folder is the group's already, so that what is in it need not be looked at.
func (o owner) owns(dir string) bool {
	var st unix.Stat_t
	if o.group == nil || unix.Stat(dir, &st) != nil {
		return false
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR && int64(st.Gid) == *o.group && st.Mode&0o7777 == o.mode(st.Mode)
}

// mountOptions has a file system begin with its mode and group.
func (o owner) mountOptions(mode os.FileMode) string {
	bits := uint32(mode.Perm())
	if mode&os.ModeSticky != 0 {
		bits |= 0o1000
	}
	if o.group == nil {
		return fmt.Sprintf("mode=%#o", bits)
	}
	if o.readOnly {
		bits |= 0o2550
	} else {
		bits |= 0o2770
	}
	return fmt.Sprintf("mode=%#o,gid=%d", bits, *o.group)
}

// fileMode is the mode that an API object writes in Unix' numbers.
func fileMode(mode int32) os.FileMode {
	m := os.FileMode(mode).Perm()
	for bit, flag := range map[int32]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}
