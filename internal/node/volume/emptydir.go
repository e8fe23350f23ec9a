package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"podium.dev/podium/internal/node/poddir"
	"podium.dev/podium/internal/node/qos"
)

// emptyDir makes an empty folder of the kind that the volume asks for, unless it is there.
func (m *Manager) emptyDir(pod *v1.Pod, v *v1.Volume) error {
	dir := poddir.Volume(m.cfg.Paths, pod.UID, pluginEmptyDir, v.Name)
	owner := ownerOf(pod, false)
	mode := os.FileMode(0o777)
	switch {
	case v.EmptyDir.Mode != nil:
		mode = fileMode(*v.EmptyDir.Mode)
	case v.EmptyDir.Medium == v1.StorageMediumMemory:
		mode |= os.ModeSticky // as a tmpfs begins when nobody says otherwise
	}
	switch medium := v.EmptyDir.Medium; {
	case medium == v1.StorageMediumDefault:
		return makeFolder(dir, mode, owner)
	case medium == v1.StorageMediumMemory:
		return makeTmpfs(dir, mode, m.memorySize(pod, v.EmptyDir.SizeLimit), owner)
	case qosHugePages(medium):
		size, err := pageSize(medium, pod)
		if err != nil {
			return err
		}
		return makeHugetlbfs(dir, mode, size, owner)
	default:
		return fmt.Errorf("unknown storage medium %q", medium)
	}
}

// makeFolder makes a folder that appears at its place with its mode and owner, so that one which is there is
// whole, and what containers made of it since is left alone.
func makeFolder(dir string, mode os.FileMode, owner owner) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o750); err != nil {
		return err
	}
	// A volume's name has no dot in front: the temporary one is never taken for one.
	hidden, err := os.MkdirTemp(parent, "..new-")
	if err != nil {
		return err
	}
	err = os.Chmod(hidden, mode)
	if err == nil {
		err = owner.take(hidden)
	}
	if err == nil {
		err = os.Rename(hidden, dir)
	}
	if err != nil {
		return errors.Join(err, os.Remove(hidden))
	}
	return nil
}

// memorySize bounds a volume in memory: by what the node has for Pods, the Pod's own memory limit and the
// volume's. 0 is no bound.
func (m *Manager) memorySize(pod *v1.Pod, limit *resource.Quantity) int64 {
	var size int64
	if m.cfg.Allocatable != nil {
		allocatable := m.cfg.Allocatable()
		size = allocatable.Memory().Value()
	}
	bound := func(by int64) {
		if by > 0 && (size == 0 || by < size) {
			size = by
		}
	}
	if memory := qos.ForPod(pod, qos.Settings{Period: qos.DefaultPeriod}).Memory; memory != nil {
		bound(*memory)
	}
	if limit != nil {
		bound(limit.Value())
	}
	return size
}

func qosHugePages(medium v1.StorageMedium) bool {
	return medium == v1.StorageMediumHugePages || len(medium) > len(v1.StorageMediumHugePagesPrefix) &&
		medium[:len(v1.StorageMediumHugePagesPrefix)] == v1.StorageMediumHugePagesPrefix
}

// pageSize is the size in bytes of a volume's huge pages: that of its medium, or the one that the Pod's
// containers request.
func pageSize(medium v1.StorageMedium, pod *v1.Pod) (int64, error) {
	var wanted int64
	if medium != v1.StorageMediumHugePages {
		q, err := resource.ParseQuantity(string(medium[len(v1.StorageMediumHugePagesPrefix):]))
		if err != nil {
			return 0, fmt.Errorf("medium %s: %w", medium, err)
		}
		wanted = q.Value()
	}
	var lists []v1.ResourceList
	if pod.Spec.Resources != nil {
		lists = append(lists, pod.Spec.Resources.Requests)
	}
	for _, containers := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range containers {
			lists = append(lists, containers[i].Resources.Requests)
		}
	}
	var found int64
	for _, list := range lists {
		for name := range list {
			size, ok := qos.PageSize(name)
			switch {
			case !ok || (wanted != 0 && size != wanted):
			case found != 0 && found != size:
				return 0, fmt.Errorf("medium: %s can't be used if container requests multiple huge page sizes", medium)
			default:
				found = size
			}
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("medium %s: hugePages storage requested, but there is no resource request for huge pages", medium)
	}
	return found, nil
}
