// Package container turns a Pod into the configurations that the runtime makes its sandbox and containers from.
package container

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/paths"
)

// Objects are what environment variables are taken from; *object.Store is one.
type Objects interface {
	ConfigMap(ctx context.Context, pod *v1.Pod, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, pod *v1.Pod, name string) (*v1.Secret, error)
	Services(ctx context.Context, namespace string, links bool) ([]*v1.Service, error)
}

// Volumes says where a Pod's volumes are; *volume.Manager is one.
type Volumes interface {
	HostPath(pod *v1.Pod, volume string) (string, error)
	// SubPath makes a path inside a volume safe to be mounted into a container, whose mount of that index
	// it is, and returns where it is then.
	SubPath(pod *v1.Pod, volume, container string, index int, path string) (string, error)
}

// PodCgroups has the cgroups that Pods live in.
type PodCgroups interface {
	// Ensure makes the Pod's cgroup with the limits of its spec, or brings them up to date, and returns
	// its path, the CgroupParent of the sandbox.
	Ensure(pod *v1.Pod) (parent string, err error)
	// Remove removes the cgroup of the Pod; one that is gone is no error.
	Remove(uid types.UID) error
}

// Config is what a Builder is made from.
type Config struct {
	NodeName string
	// HostIPs are the node's addresses, the main one first, at most one of each family.
	HostIPs func() []string
	// Allocatable is what the node has for Pods.
	Allocatable func() v1.ResourceList
	Paths       paths.Paths
	// Kubelet are the node's settings: cluster DNS, resolver file, seccomp default and the like.
	Kubelet  *kubeletconfig.KubeletConfiguration
	Objects  Objects
	Cgroups  PodCgroups
	Volumes  Volumes
	Recorder record.EventRecorder
	// Node is what events of the node are recorded of; nil records none.
	Node func() *v1.ObjectReference
	// Machine is what the kernel offers; nil has it found out.
	Machine *Machine
}

// Machine is what containers' limits depend on.
type Machine struct {
	// Unified is whether cgroups are v2 only.
	Unified bool
	// HugePages are the sizes of huge pages as the kernel writes them, like 2MB.
	HugePages []string
	// Memory and Swap are the machine's, in bytes.
	Memory, Swap int64
	// SwapControl is whether cgroups can limit swap.
	SwapControl bool
	// RecursiveReadOnly is whether a mount can be made read-only with all below it.
	RecursiveReadOnly bool
}

// ThisMachine finds out about the machine.
func ThisMachine() *Machine {
	m := &Machine{Unified: cgroups.IsCgroup2UnifiedMode(), HugePages: cgroups.HugePageSizes()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
		m.Swap = int64(info.Totalswap) * int64(info.Unit)
	}
	m.SwapControl = swapControl(m.Unified)
	// An empty path and no change: only a kernel without the call says that it has none.
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{})
	m.RecursiveReadOnly = !errors.Is(err, unix.ENOSYS)
	return m
}

func swapControl(unified bool) bool {
	file := "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"
	if unified {
		own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
		if err != nil {
			return false
		}
		file = "/sys/fs/cgroup" + own[""] + "/memory.swap.max"
	}
	_, err := os.Stat(file)
	return err == nil
}

// Builder builds CRI configurations. It is safe for use from several goroutines.
type Builder struct {
	cfg        Config
	users      *userRanges
	missingDNS sync.Once
}

// NewBuilder makes a Builder.
func NewBuilder(cfg Config) *Builder {
	if cfg.Machine == nil {
		cfg.Machine = ThisMachine()
	}
	return &Builder{cfg: cfg, users: newUserRanges(cfg.Paths, cfg.Kubelet)}
}

// Input is what the configuration of a container is built from.
type Input struct {
	Pod       *v1.Pod
	Container *v1.Container
	// Attempt counts the container's starts, from 0: its restart count.
	Attempt uint32
	// ImageRef is the resolved image the runtime starts, Image what it knows of it.
	ImageRef string
	Image    *runtimeapi.Image
	PodIPs   []string
	Sandbox  *runtimeapi.PodSandboxConfig
	// TargetID is the container whose process namespace an ephemeral container joins, or "".
	TargetID string
	// ImageVolumes are the pulled images of the Pod's image volumes by the volume's name; one that is not
	// here is named to the runtime as the spec names it.
	ImageVolumes map[string]*runtimeapi.ImageSpec
}

// Reasons that a Pod's or container's status gives for an error.
const (
	ReasonConfig  = "CreateContainerConfigError"
	ReasonSandbox = "CreatePodSandboxError"
)

// reasoned is an error with the reason that a status gives for it; its text is the status's message.
type reasoned struct {
	reason string
	error
}

func (e *reasoned) Unwrap() error { return e.error }

func because(reason string, err error) error {
	if err == nil {
		return nil
	}
	return &reasoned{reason, err}
}

// Reason returns the waiting reason of an error of a Builder, "" for any other error.
func Reason(err error) string {
	var r *reasoned
	if errors.As(err, &r) {
		return r.reason
	}
	return ""
}

func (b *Builder) event(pod *v1.Pod, reason, message string) {
	if b.cfg.Recorder != nil {
		b.cfg.Recorder.Event(pod, v1.EventTypeWarning, reason, message)
	}
}
