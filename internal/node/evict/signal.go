package evict

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal names something the node can run short of, as KubeletConfiguration does.
type Signal string

// The signals.
const (
	MemoryAvailable Signal = "memory.available"
	// AllocatableMemory is what Pods together may still use before their common cgroup is full. It has no settings of
	// its own: its threshold is the hard one of memory.available.
	AllocatableMemory Signal = "allocatableMemory.available"
	// NodeFs is the file system of volumes and logs, ImageFs that of images, ContainerFs that of containers' writable
	// layers.
	NodeFsAvailable       Signal = "nodefs.available"
	NodeFsInodesFree      Signal = "nodefs.inodesFree"
	ImageFsAvailable      Signal = "imagefs.available"
	ImageFsInodesFree     Signal = "imagefs.inodesFree"
	ContainerFsAvailable  Signal = "containerfs.available"
	ContainerFsInodesFree Signal = "containerfs.inodesFree"
	PIDAvailable          Signal = "pid.available"
)

// Resources that only eviction knows.
const (
	resourceInodes v1.ResourceName = "inodes"
	resourcePIDs   v1.ResourceName = "pids"
)

// meaning is what a signal is about.
type meaning struct {
	signal    Signal
	resource  v1.ResourceName
	condition v1.NodeConditionType
}

// meanings lists all signals in the order in which they are seen to: memory first, for there the kernel would
// choose if the node did not.
var meanings = []meaning{
	{MemoryAvailable, v1.ResourceMemory, v1.NodeMemoryPressure},
	{AllocatableMemory, v1.ResourceMemory, v1.NodeMemoryPressure},
	{NodeFsAvailable, v1.ResourceEphemeralStorage, v1.NodeDiskPressure},
	{NodeFsInodesFree, resourceInodes, v1.NodeDiskPressure},
	{ImageFsAvailable, v1.ResourceEphemeralStorage, v1.NodeDiskPressure},
	{ImageFsInodesFree, resourceInodes, v1.NodeDiskPressure},
	{ContainerFsAvailable, v1.ResourceEphemeralStorage, v1.NodeDiskPressure},
	{ContainerFsInodesFree, resourceInodes, v1.NodeDiskPressure},
	{PIDAvailable, resourcePIDs, v1.NodePIDPressure},
}

// order is the signal's place in meanings, len(meanings) for one that is not there.
func (s Signal) order() int {
	for i := range meanings {
		if meanings[i].signal == s {
			return i
		}
	}
	return len(meanings)
}

// known reports whether there is such a signal.
func (s Signal) known() bool { return s.order() < len(meanings) }

// resource is what is short when the signal is.
func (s Signal) resource() v1.ResourceName { return meanings[s.order()].resource }

// condition is the node's condition when the signal is short.
func (s Signal) condition() v1.NodeConditionType { return meanings[s.order()].condition }

// Observation is how much there is of something: bytes, inodes or tasks.
type Observation struct {
	Available, Capacity resource.Quantity
	// reclaimable is memory that is in use and yet counted as available.
	reclaimable int64
}

// Observations are what was seen at one moment. A signal that cannot be seen is not there.
type Observations map[Signal]Observation

// Layout is which of the node's file systems are one.
type Layout struct {
	// DedicatedImages is that images or containers' layers are not on the file system of volumes and logs.
	DedicatedImages bool
	// SplitContainers is that images and containers' layers are on different file systems.
	SplitContainers bool
}

// period is the longest time between two looks (the kubelet's own period of eviction).
const period = 10 * time.Second
