package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// point is a mount of a container.
type point struct {
	*runtimeapi.Mount
	// made reports that the node made what is mounted, so that it may add places for mounts below it.
	made bool
}

// runtimeFiles are the files that the runtime mounts into every container.
var runtimeFiles = []string{"/etc/hostname", "/etc/resolv.conf"}

// makeMountPoints makes the places at which a container has mounts below its mounts. The runtime makes what is missing
// itself, but cannot do so below a mount that is read-only. Volumes that the node has made get the place here:
// a folder for a folder, a file for anything else. What is there already stays. In others (hostPath, images) the
// place must be there, as in Kubernetes.
func makeMountPoints(points []point) error {
	for _, inner := range points {
		if err := makeMountPoint(points, inner.ContainerPath, !isFolder(inner.Mount)); err != nil {
			return err
		}
	}
	for _, file := range runtimeFiles {
		if err := makeMountPoint(points, file, true); err != nil {
			return err
		}
	}
	return nil
}

func makeMountPoint(points []point, at string, file bool) error {
	outer, below := innermost(points, at)
	if outer == nil || !outer.made || !outer.Readonly {
		return nil
	}
	if err := makeIn(outer.HostPath, below, file); err != nil {
		return fmt.Errorf("make the place for the mount at %s below the one at %s: %w", at, outer.ContainerPath, err)
	}
	return nil
}

// isFolder reports whether a folder is mounted; an image is one.
func isFolder(m *runtimeapi.Mount) bool {
	if m.Image != nil {
		return true
	}
	// A path that is not there becomes a folder.
	info, err := os.Stat(m.HostPath)
	return err != nil || info.IsDir()
}

// innermost returns the mount that a path of the container lies in and its place there; nil for none.
func innermost(points []point, at string) (outer *point, below string) {
	at = path.Clean(at)
	for i := range points {
		prefix := strings.TrimSuffix(path.Clean(points[i].ContainerPath), "/") + "/"
		if rest, ok := strings.CutPrefix(at, prefix); ok && (outer == nil || len(rest) <= len(below)) {
			outer, below = &points[i], rest
		}
	}
	return outer, below
}

// makeIn makes a folder or an empty file in root, whose content leads nowhere else.
func makeIn(root, name string, file bool) error {
	if there, err := pathrs.OpenInRoot(root, name); err == nil {
		return there.Close()
	}
	if !file {
		return ignoreExisting(pathrs.MkdirAll(root, name, 0o755))
	}
	parent := path.Dir(name)
	if err := ignoreExisting(pathrs.MkdirAll(root, parent, 0o755)); err != nil {
		return err
	}
	dir, err := pathrs.OpenInRoot(root, parent)
	if err != nil {
		return err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), path.Base(name), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return ignoreExisting(&fs.PathError{Op: "create", Path: name, Err: err})
	}
	return unix.Close(fd)
}

func ignoreExisting(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
