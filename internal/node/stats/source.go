package stats

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/paths"
)

// Config is what a Source is made from.
type Config struct {
	NodeName string
	// Capacity is the machine's.
	Capacity v1.ResourceList
	Paths    paths.Paths
	Runtime  internalapi.RuntimeService
	Images   internalapi.ImageManagerService
	// Machine is the cgroup of all of the machine's processes, Tree that which Pods' cgroups are below.
	Machine, Tree *cgroup.Manager
	// Pods returns the node's Pods.
	Pods func() []*v1.Pod
	// Volume answers where a volume of a Pod is, PodLogDir where its logs are.
	Volume    func(p *v1.Pod, volume string) (string, error)
	PodLogDir func(p *v1.Pod) string
	// VolumePeriod is the longest time that a count of files is used for (volumeStatsAggPeriod); below 0 volumes are
	// not counted.
	VolumePeriod time.Duration
	Clock        clock.PassiveClock
}

// Source measures the node and its Pods. It is safe for use from several goroutines.
type Source struct {
	c     Config
	start time.Time

	mu   sync.Mutex
	cpu  sample
	disk map[string]measured // by folder, or by the UID of a Pod for its containers' layers
	// images and layers are folders on the file systems of images and of containers' writable layers, "" when nobody
	// has asked yet.
	images, layers string
	// counting is held by whoever counts files: one at a time is enough for the disk.
	counting sync.Mutex
}

// New makes a Source; nothing is measured before it is asked.
func New(c Config) *Source {
	return &Source{c: c, start: c.Clock.Now(), disk: map[string]measured{}}
}

// Disks are the node's file systems.
type Disks struct {
	// Node is that of volumes and logs, Images that of images, Containers that of containers' writable layers.
	Node, Images, Containers FileSystem
}

// Disks reads the node's file systems.
func (s *Source) Disks(ctx context.Context) (Disks, error) {
	var d Disks
	images, layers, err := s.imageFolders(ctx)
	if err != nil {
		return d, err
	}
	for path, at := range map[string]*FileSystem{s.c.Paths.Kubelet: &d.Node, images: &d.Images} {
		if *at, err = ReadFileSystem(path, s.c.Clock.Now()); err != nil {
			return d, err
		}
	}
	d.Containers = d.Images
	if layers != images {
		d.Containers, err = ReadFileSystem(layers, s.c.Clock.Now())
	}
	return d, err
}

// imageFolders asks the runtime, once, where it keeps images and containers' writable layers.
func (s *Source) imageFolders(ctx context.Context) (images, layers string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.images != "" {
		return s.images, s.layers, nil
	}
	info, err := s.c.Images.ImageFsInfo(ctx)
	if err != nil {
		return "", "", fmt.Errorf("ask the runtime where its images are: %w", err)
	}
	if images = mountpoint(info.GetImageFilesystems()); images == "" {
		return "", "", fmt.Errorf("ask the runtime where its images are: it does not say")
	}
	if layers = mountpoint(info.GetContainerFilesystems()); layers == "" {
		layers = images
	}
	s.images, s.layers = images, layers
	return images, layers, nil
}

func mountpoint(list []*runtimeapi.FilesystemUsage) string {
	if len(list) == 0 {
		return ""
	}
	return list[0].GetFsId().GetMountpoint()
}

// MachineMemory is the machine's memory: what is in use and cannot be had back at once, and what is left of the
// whole but for huge pages.
func (s *Source) MachineMemory() (Memory, error) {
	m, err := s.c.Machine.Memory("/")
	if err != nil {
		return Memory{}, err
	}
	out := memory(m, s.c.Clock.Now())
	out.available(uint64(s.c.Capacity.Memory().Value()), hugePages(s.c.Capacity))
	return out, nil
}

// PodsMemory is the memory of all Pods. What is available is known when their cgroup has a limit.
func (s *Source) PodsMemory() (Memory, error) {
	m, err := s.c.Tree.Memory(container.PodsCgroup)
	if err != nil {
		return Memory{}, err
	}
	out := memory(m, s.c.Clock.Now())
	if m.Limit > 0 {
		out.available(m.Limit, 0)
	}
	return out, nil
}
