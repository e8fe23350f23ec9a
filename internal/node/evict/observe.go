package evict

import (
	"context"
	"errors"
	"io/fs"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"podium.dev/podium/internal/node/stats"
)

// Measured is a Source over the node's own measures.
type Measured struct{ *stats.Source }

// Observe implements Source.
func (m Measured) Observe(ctx context.Context, signals []Signal) (Observations, error) {
	seen := Observations{}
	wanted := map[v1.NodeConditionType]bool{}
	all := map[Signal]bool{}
	for _, s := range signals {
		wanted[s.condition()], all[s] = true, true
	}
	var failed []error
	if all[MemoryAvailable] {
		failed = append(failed, observeMemory(seen, MemoryAvailable, m.MachineMemory))
	}
	if all[AllocatableMemory] {
		failed = append(failed, observeMemory(seen, AllocatableMemory, m.PodsMemory))
	}
	if wanted[v1.NodeDiskPressure] {
		disks, err := m.Disks(ctx)
		failed = append(failed, err)
		if err == nil {
			observeDisk(seen, disks.Node, NodeFsAvailable, NodeFsInodesFree)
			observeDisk(seen, disks.Images, ImageFsAvailable, ImageFsInodesFree)
			observeDisk(seen, disks.Containers, ContainerFsAvailable, ContainerFsInodesFree)
		}
	}
	if all[PIDAvailable] {
		tasks, err := stats.ReadTasks()
		failed = append(failed, err)
		if err == nil {
			seen[PIDAvailable] = Observation{
				Available: *resource.NewQuantity(tasks.Most-tasks.Running, resource.DecimalSI),
				Capacity:  *resource.NewQuantity(tasks.Most, resource.DecimalSI),
			}
		}
	}
	return seen, errors.Join(failed...)
}

func observeMemory(seen Observations, s Signal, read func() (stats.Memory, error)) error {
	memory, err := read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no Pod was ever here
	}
	if err != nil || memory.Available == nil {
		return err
	}
	seen[s] = Observation{
		Available: *bytesOf(int64(*memory.Available)), Capacity: *bytesOf(int64(*memory.Available + memory.WorkingSet)),
		reclaimable: int64(memory.Usage - memory.WorkingSet),
	}
	return nil
}

// observeDisk takes in a file system; one that does not count inodes has no signal of them.
func observeDisk(seen Observations, f stats.FileSystem, space, inodes Signal) {
	seen[space] = Observation{Available: *bytesOf(int64(f.Available)), Capacity: *bytesOf(int64(f.Capacity))}
	if f.Inodes > 0 {
		seen[inodes] = Observation{
			Available: *resource.NewQuantity(int64(f.InodesFree), resource.DecimalSI),
			Capacity:  *resource.NewQuantity(int64(f.Inodes), resource.DecimalSI),
		}
	}
}

// Layout implements Source.
func (m Measured) Layout(ctx context.Context) (Layout, error) {
	d, err := m.Disks(ctx)
	if err != nil {
		return Layout{}, err
	}
	split := d.Images.Device != d.Containers.Device
	return Layout{DedicatedImages: split || d.Images.Device != d.Node.Device, SplitContainers: split}, nil
}

var _ Source = Measured{}
