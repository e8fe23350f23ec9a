package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/node/poddir"
)

// SubPath shows a path inside a volume at a place of its own, and returns that place: what a container's
// mount of that index is bound to. A path that is not there becomes a folder with the volume's mode. Links
// that containers put into the volume lead nowhere outside it, and once shown the place cannot be turned
// elsewhere: it is the file itself that is bound, not its name. The error names neither, as it is for users.
func (m *Manager) SubPath(pod *v1.Pod, volume, container string, index int, path string) (string, error) {
	place, err := m.subPath(pod, volume, container, index, path)
	if err != nil {
		klog.ErrorS(err, "Sub-path of a volume could not be prepared", "pod", klog.KObj(pod), "volume", volume, "container", container)
		if errors.Is(err, errMakeSubPath) {
			return "", fmt.Errorf("failed to create subPath directory for volumeMount %q of container %q", volume, container)
		}
		return "", fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q", volume, container)
	}
	return place, nil
}

var errMakeSubPath = errors.New("make sub-path")

func (m *Manager) subPath(pod *v1.Pod, volume, container string, index int, path string) (string, error) {
	root, err := m.HostPath(pod, volume)
	if err != nil {
		return "", err
	}
	source, err := openSubPath(root, path)
	if err != nil {
		return "", err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return "", err
	}
	place := poddir.SubPath(m.cfg.Paths, pod.UID, volume, container, index)
	if shown(place, info) {
		return place, nil
	}
	if err := removeTree(place); err != nil {
		return "", err
	}
	if err := makePlace(place, info.IsDir()); err != nil {
		return "", err
	}
	err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", source.Fd()), place, "", unix.MS_BIND, "")
	if err != nil {
		return "", &os.PathError{Op: "bind", Path: place, Err: err}
	}
	return place, nil
}

// openSubPath opens a path inside a volume without reading it, and makes it where it is not there.
func openSubPath(root, path string) (*os.File, error) {
	f, err := pathrs.OpenInRoot(root, path)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if err := pathrs.MkdirAll(root, path, info.Mode().Perm()); err != nil {
		return nil, fmt.Errorf("%w: %w", errMakeSubPath, err)
	}
	f, err = pathrs.OpenInRoot(root, path)
	if err != nil {
		return nil, err
	}
	// The mode again, which the process' umask had a say in; setgid keeps what is made there the group's.
	if err := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), info.Mode()&(os.ModePerm|os.ModeSetuid|os.ModeSetgid|os.ModeSticky)); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %w", errMakeSubPath, err)
	}
	return f, nil
}

// shown reports whether a place shows a file already: after a restart of the container or of the node.
func shown(place string, source fs.FileInfo) bool {
	mounted, err := isMountRoot(unix.AT_FDCWD, place)
	if err != nil || !mounted {
		return false
	}
	info, err := os.Lstat(place)
	return err == nil && os.SameFile(info, source)
}

// makePlace makes what a bind mount is put on: a folder for a folder, a file for anything else.
func makePlace(place string, dir bool) error {
	if dir {
		return os.MkdirAll(place, 0o750)
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(place, os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}
