package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

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

// mode is what an entry's mode becomes when it belongs to the group.
func (o owner) mode(info fs.FileInfo) os.FileMode {
	mask := os.FileMode(0o660)
	if o.readOnly {
		mask = 0o440
	}
	if info.IsDir() {
		mask |= os.ModeSetgid | 0o110
	}
	return info.Mode() | mask
}

// take gives one entry to the group.
func (o owner) take(path string) error {
	if o.group == nil {
		return nil
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if err := os.Lchown(path, -1, int(*o.group)); err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		return nil
	}
	return os.Chmod(path, o.mode(info))
}

// takeAll gives a folder and all in it to the group, the folder itself last: one that belongs to the group
// is done. What vanishes meanwhile is no error.
func (o owner) takeAll(dir string) error {
	if o.group == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != dir {
			err = o.take(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return o.take(dir)
}

// owns reports whether a folder is the group's already, so that what is in it need not be looked at.
func (o owner) owns(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || o.group == nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.IsDir() && int64(st.Gid) == *o.group && info.Mode()|o.mode(info) == info.Mode()
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
