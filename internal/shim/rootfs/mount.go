// Package rootfs mounts what a container's files are made of and looks into it: who the container's user is, where a
// folder of an image is. The runtime looks before a container is made, so that one that cannot be is none, and the
// short-lived process that makes it mounts for good.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim/bundle"
)

// Mount mounts one after the other on target.
func Mount(target string, mounts []bundle.Mount) error {
	if len(mounts) == 0 {
		return errors.New("there is nothing to mount")
	}
	for _, m := range mounts {
		if err := mountOne(target, m); err != nil {
			return fmt.Errorf("mount %s %s on %s: %w", m.Type, m.Source, target, err)
		}
	}
	return nil
}

// mountFlags are the options that are flags of mount(2); all others are data for the file system.
var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME,
	"relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME, "bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC,
	"rw": 0, "defaults": 0,
}

// parseOptions splits fstab's words into flags and data.
func parseOptions(options []string) (flags uintptr, data []string) {
	for _, o := range options {
		if f, ok := mountFlags[o]; ok {
			flags |= f
			continue
		}
		data = append(data, o)
	}
	return flags, data
}

// mountOne is mount(2), with the second call that a read-only bind mount needs, and with overlay's layers named
// shorter when their full names would not fit into the one page that mount(2) takes.
func mountOne(target string, m bundle.Mount) error {
	flags, data := parseOptions(m.Options)
	options := strings.Join(data, ",")
	if m.Type == "overlay" && len(options) >= os.Getpagesize() {
		dir, shorter := relativeLayers(data)
		back, err := os.Getwd()
		if err != nil {
			return err
		}
		if err := os.Chdir(dir); err != nil {
			return err
		}
		defer os.Chdir(back)
		options = strings.Join(shorter, ",")
	}
	if flags&unix.MS_BIND == 0 {
		return unix.Mount(m.Source, target, m.Type, flags, options)
	}
	if err := unix.Mount(m.Source, target, m.Type, flags&(unix.MS_BIND|unix.MS_REC), options); err != nil {
		return err
	}
	if flags&^(unix.MS_BIND|unix.MS_REC) == 0 {
		return nil
	}
	return unix.Mount("", target, "", flags|unix.MS_REMOUNT|unix.MS_BIND, options)
}

// relativeLayers names the lower folders from a folder above all of them.
func relativeLayers(data []string) (dir string, out []string) {
	const key = "lowerdir="
	for _, o := range data {
		if !strings.HasPrefix(o, key) {
			out = append(out, o)
			continue
		}
		layers := strings.Split(o[len(key):], ":")
		dir = commonDir(layers)
		for i, l := range layers {
			layers[i] = strings.TrimPrefix(strings.TrimPrefix(l, dir), "/")
		}
		out = append(out, key+strings.Join(layers, ":"))
	}
	return dir, out
}

// commonDir is the deepest folder that all absolute paths are below.
func commonDir(paths []string) string {
	dir := path.Dir(paths[0])
	for _, p := range paths[1:] {
		for dir != "/" && !strings.HasPrefix(p, dir+"/") {
			dir = path.Dir(dir)
		}
	}
	return dir
}
