package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim/bundle"
)

// Look finds out whether the bundle's user and the folders of its images are there. It mounts what it looks into in a
// mount namespace of its own, which is gone when it returns, and nothing at all when there is nothing to look for: most
// containers name neither.
func Look(b *bundle.Bundle) error {
	wanted := Named(b.User)
	for _, im := range b.Images {
		wanted = wanted || im.SubPath != ""
	}
	if !wanted {
		return nil
	}
	done := make(chan error)
	go func() { done <- apart(func() error { return look(b) }) }()
	return <-done
}

// apart does something in a mount namespace of its own. It is called on a goroutine that ends with it: the thread, whose
// namespace was changed, ends with the goroutine too.
func apart(do func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The first thread never ends. It stays with this goroutine while another does the work on another thread.
		defer runtime.UnlockOSThread()
		done := make(chan error)
		go func() { done <- apart(do) }()
		return <-done
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	return do()
}

func look(b *bundle.Bundle) error {
	if Named(b.User) {
		err := mounted(filepath.Join(b.Private, bundle.RootfsDir), b.Rootfs, func(root string) error {
			_, err := User(root, b.User)
			return err
		})
		if err != nil {
			return err
		}
	}
	for i, im := range b.Images {
		if im.SubPath == "" {
			continue
		}
		err := mounted(filepath.Join(b.Private, bundle.ImagesDir), im.Mounts, func(dir string) error {
			_, err := SubPath(dir, im.SubPath)
			return err
		})
		if err != nil {
			return fmt.Errorf("image volume %s: %w", strconv.Itoa(i), err)
		}
	}
	return nil
}

// mounted calls do with dir while the mounts are on it.
func mounted(dir string, mounts []bundle.Mount, do func(dir string) error) (err error) {
	if err := Mount(dir, mounts); err != nil {
		return err
	}
	defer func() {
		if uerr := unix.Unmount(dir, 0); err == nil && uerr != nil {
			err = os.NewSyscallError("unmount "+dir, uerr)
		}
	}()
	return do(dir)
}
