package cri

import (
	"context"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/cri/spec"
	"podium.dev/podium/internal/image"
	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/shim/bundle"
)

// Images is what the runtime needs of the image store.
type Images interface {
	// Find returns the image of any reference: a tag, a digest, an image ID. The error wraps
	// errdefs.ErrNotFound when there is none.
	Find(ctx context.Context, ref string) (image.Image, error)
	// Rootfs prepares the snapshot named key above the image's layers, or finds the one prepared before, and returns
	// the mounts that make a root file system of it. A read-only one shares the image's layers.
	Rootfs(ctx context.Context, img image.Image, key string, readOnly bool) ([]mount.Mount, error)
	// RemoveRootfs removes the snapshot; no error if there is none.
	RemoveRootfs(ctx context.Context, key string) error
	// Usage is what the snapshot's own, writable layer takes.
	Usage(ctx context.Context, key string) (bytes, inodes int64, err error)
}

// Network is what the runtime needs of the Pods' network.
type Network interface {
	// Setup gives the sandbox its network; asked again for the same ID it answers the same.
	Setup(ctx context.Context, req network.Request) (network.Result, error)
	// Teardown takes it away again. It is idempotent and safe without Setup; netNSPath is empty when the namespace is
	// gone.
	Teardown(ctx context.Context, id, netNSPath string) error
	// Ready is nil when Setup can work.
	Ready() error
}

// Machine is what the runtime does to the machine itself, besides what the shims do. Tests without root replace it.
type Machine interface {
	// Host describes it for the containers' configurations.
	Host() spec.Host
	// BootID changes with every start of the machine.
	BootID() (string, error)
	// MountPrivate makes dir a mount of its own whose mounts are seen in no other mount namespace. Idempotent.
	MountPrivate(dir string) error
	// Unmount takes away what is mounted on path. Idempotent.
	Unmount(path string) error
	// Look finds out whether what the bundle names is in its images: the user, folders of image volumes.
	Look(b *bundle.Bundle) error
	// MakeCgroup makes the cgroup, whose path is from each hierarchy's root, and returns its folders.
	MakeCgroup(path string) ([]string, error)
	// SetCgroup changes a cgroup's limits.
	SetCgroup(path string, res cgroup.Resources) error
	// ClearCgroup kills all that is in the cgroup, waits for its end, and removes the cgroup. Idempotent.
	ClearCgroup(ctx context.Context, path string) error
	// CgroupStats reads what a cgroup has used. The error wraps fs.ErrNotExist for one that is not there.
	CgroupStats(path string) (cgroup.Stats, error)
	// CgroupV2 says which kind the machine has.
	CgroupV2() bool
}

// Config is what a Runtime is made of.
type Config struct {
	// Paths are the node's places: Runtime for records, Run for sockets, bundles and network namespaces, Root for
	// the unpacked programs.
	Paths   paths.Paths
	Images  Images
	Network Network
	// ShimPath is the folder of the static programs as hack/build-shim.sh makes them. Empty unpacks those that are
	// embedded in this binary.
	ShimPath string
	// PlaceShim, when not nil, moves a shim that has just started out of this process's cgroup.
	PlaceShim func(pid int) error
	// Launcher starts shims, Machine is the machine. Nil takes the real ones.
	Launcher shim.Launcher
	Machine  Machine
	// Clock tells the time of what happens in this process. Nil takes the real one.
	Clock clock.Clock
	// LogLimits is how large containers' logs become before the shims put them aside.
	LogLimits shim.LogLimits
	// Version is Podium's, for Version.
	Version string
	// OnStep, when set, is told how long each step of a sandbox's or container's start took.
	OnStep func(Step)
	// OnOOM, when set, is told when the kernel has killed processes of a container for memory.
	OnOOM func(OOM)
}

// Step is a part of a start.
type Step struct {
	// PodUID is the Pod's, Container its container's name; empty for a step of the sandbox's.
	PodUID, Container string
	Name              string
	Start             time.Time
	Took              time.Duration
}
