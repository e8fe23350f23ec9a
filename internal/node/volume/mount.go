package volume

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// noSwapUnknown is set once the kernel has refused the noswap option.
var noSwapUnknown atomic.Bool

// makeTmpfs mounts a file system in memory at dir, unless one is; size 0 is the kernel's own bound.
func makeTmpfs(dir string, mode os.FileMode, size int64, owner owner) error {
	options := owner.mountOptions(mode)
	if size > 0 {
		options += fmt.Sprintf(",size=%d", size)
	}
	return mountOnce(dir, func() error {
		if !noSwapUnknown.Load() {
			err := unix.Mount("tmpfs", dir, "tmpfs", 0, options+",noswap")
			if !errors.Is(err, unix.EINVAL) {
				return err
			}
			noSwapUnknown.Store(true)
		}
		return unix.Mount("tmpfs", dir, "tmpfs", 0, options)
	})
}

// makeHugetlbfs mounts a file system of huge pages at dir, unless one is.
func makeHugetlbfs(dir string, mode os.FileMode, pageSize int64, owner owner) error {
	options := fmt.Sprintf("%s,pagesize=%d", owner.mountOptions(mode), pageSize)
	return mountOnce(dir, func() error { return unix.Mount("nodev", dir, "hugetlbfs", 0, options) })
}

func mountOnce(dir string, mount func() error) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	mounted, err := isMountRoot(unix.AT_FDCWD, dir)
	if err != nil || mounted {
		return err
	}
	if err := mount(); err != nil {
		return &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	return nil
}

// isMountRoot reports whether something is mounted at a path; a link is not followed.
func isMountRoot(dirfd int, path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(dirfd, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	if err != nil {
		return false, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false, errors.New("the kernel does not tell mounts from folders: Linux 5.8 or newer is needed")
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
