//go:build cgo

package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim/bundle"
	"podium.dev/podium/internal/shim/rootfs"
)

// prepareMounts mounts the bundle's root file system, images and shared memory below its private folder.
func prepareMounts(b *bundle.Bundle) error {
	root := filepath.Join(b.Private, bundle.RootfsDir)
	if err := rootfs.Mount(root, b.Rootfs); err != nil {
		return fmt.Errorf("failed to mount rootfs of container %s: %w", b.ID, err)
	}
	for i, im := range b.Images {
		if err := mountImage(b, i, im); err != nil {
			return err
		}
	}
	if b.ShmPID == 0 {
		return nil
	}
	shm := filepath.Join(b.Private, bundle.ShmDir)
	if err := takeMount(b.ShmPID, "/shm", shm); err != nil {
		return fmt.Errorf("take the Pod's /dev/shm from its pause process %d: %w", b.ShmPID, err)
	}
	return nil
}

// mountImage mounts the n-th image and points those mounts of the spec that take it at its wanted folder.
func mountImage(b *bundle.Bundle, n int, im bundle.ImageMount) error {
	// The folder of all image mounts is a tmpfs of this mount namespace, so the N below it are nobody else's.
	images := filepath.Join(b.Private, bundle.ImagesDir)
	if n == 0 {
		if err := unix.Mount("tmpfs", images, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=64k"); err != nil {
			return fmt.Errorf("mount a tmpfs on %s: %w", images, err)
		}
	}
	dir := filepath.Join(images, strconv.Itoa(n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := rootfs.Mount(dir, im.Mounts); err != nil {
		return fmt.Errorf("failed to mount image volume %d of container %s: %w", n, b.ID, err)
	}
	if im.SubPath == "" {
		return nil
	}
	sub, err := rootfs.SubPath(dir, im.SubPath)
	if err != nil {
		return err
	}
	for i := range b.Spec.Mounts {
		if b.Spec.Mounts[i].Source == dir {
			b.Spec.Mounts[i].Source = sub
		}
	}
	return nil
}

// takeMount makes a copy of the mount at path in the mount namespace of a process appear at target in ours.
func takeMount(pid int, path, target string) error {
	type answer struct {
		fd  int
		err error
	}
	ch := make(chan answer)
	go func() {
		runtime.LockOSThread() // for good: this thread has changed its namespace and ends with the goroutine
		fd, err := cloneMount(pid, path)
		ch <- answer{fd, err}
	}()
	a := <-ch
	if a.err != nil {
		return a.err
	}
	defer unix.Close(a.fd)
	return os.NewSyscallError("move_mount", unix.MoveMount(a.fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

func cloneMount(pid int, path string) (int, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return -1, os.NewSyscallError("unshare", err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return -1, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return -1, os.NewSyscallError("setns", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	return fd, os.NewSyscallError("open_tree "+path, err)
}

// onInitialRoot reports whether the root is the kernel's initial RAM file system, which cannot be pivoted away from.
func onInitialRoot() bool {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter("/"))
	return err == nil && len(mounts) > 0 && mounts[0].FSType == "rootfs"
}
