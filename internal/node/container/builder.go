// Package container turns a Pod into the configurations that the runtime makes its sandbox and containers from.
package container

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/paths"
)

// Objects are what environment variables are taken from; *object.Store is one.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
	Services(ctx context.Context, namespace string, links bool) ([]*v1.Service, error)
}

// Volumes says where a Pod's volumes are; *volume.Manager is one.
type Volumes interface {
	HostPath(pod *v1.Pod, volume string) (string, error)
}

// PodCgroups has the cgroups that Pods live in.
type PodCgroups interface {
	// Ensure makes the Pod's cgroup with the limits of its spec, or brings them up to date, and answers with
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
}

// Builder builds CRI configurations. It is safe for use from several goroutines.
type Builder struct{ cfg Config }

// NewBuilder makes a Builder.
func NewBuilder(cfg Config) *Builder { return &Builder{cfg: cfg} }

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
}

var errUnbuilt = errors.New("container builder: not built yet")

// Sandbox builds the configuration of a Pod's sandbox and makes its log folder and cgroup.
func (b *Builder) Sandbox(pod *v1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	return nil, errUnbuilt
}

// Container builds the configuration of a container, and makes the files on the host that it needs. The
// error's Reason is what the container's status says it waits for.
func (b *Builder) Container(ctx context.Context, in Input) (*runtimeapi.ContainerConfig, error) {
	return nil, errUnbuilt
}

// Reason answers with the waiting reason of an error of a Builder, "" for any other error.
func Reason(err error) string { return "" }
