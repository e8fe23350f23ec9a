package stats

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/container"
)

// Summary is what the node and its Pods use. With less it is their processors' and memory's use only, for which no
// file is counted.
func (s *Source) Summary(ctx context.Context, less bool) (*stats.Summary, error) {
	node, err := s.Node(ctx, less)
	if err != nil {
		return nil, err
	}
	pods, err := s.pods(ctx, less)
	if err != nil {
		return nil, err
	}
	return &stats.Summary{Node: *node, Pods: pods}, nil
}

// Node is what the node uses.
func (s *Source) Node(ctx context.Context, less bool) (*stats.NodeStats, error) {
	cpu, boot, err := s.processors()
	if err != nil {
		return nil, err
	}
	m, err := s.MachineMemory()
	if err != nil {
		return nil, err
	}
	out := &stats.NodeStats{
		NodeName: s.c.NodeName, StartTime: metav1.NewTime(boot), CPU: cpu, Memory: m.Stats(), SystemContainers: s.systemContainers(),
		Swap: &stats.SwapStats{Time: metav1.NewTime(m.At), SwapUsageBytes: &m.Swap},
	}
	if less {
		return out, nil
	}
	t, err := ReadTasks()
	if err != nil {
		return nil, err
	}
	out.Rlimit = &stats.RlimitStats{Time: metav1.NewTime(s.c.Clock.Now()), MaxPID: &t.Most, NumOfRunningProcesses: &t.Running}
	disks, err := s.Disks(ctx)
	if err != nil {
		return nil, err
	}
	out.Fs = disks.Node.Whole()
	out.Runtime = &stats.RuntimeStats{ImageFs: disks.Images.Room(), ContainerFs: disks.Containers.Room()}
	return out, s.imagesUse(ctx, out.Runtime)
}

// imagesUse adds what images, and containers' writable layers, take of their file systems.
func (s *Source) imagesUse(ctx context.Context, out *stats.RuntimeStats) error {
	info, err := s.c.Images.ImageFsInfo(ctx)
	if err != nil {
		return fmt.Errorf("ask the runtime what its images take: %w", err)
	}
	for _, f := range info.GetImageFilesystems()[:min(1, len(info.GetImageFilesystems()))] {
		out.ImageFs.UsedBytes, out.ImageFs.InodesUsed = value(f.UsedBytes), value(f.InodesUsed)
		out.ContainerFs.UsedBytes, out.ContainerFs.InodesUsed = value(f.UsedBytes), value(f.InodesUsed)
	}
	for _, f := range info.GetContainerFilesystems()[:min(1, len(info.GetContainerFilesystems()))] {
		out.ContainerFs.UsedBytes, out.ContainerFs.InodesUsed = value(f.UsedBytes), value(f.InodesUsed)
	}
	return nil
}

// systemContainers are the cgroups that hold more than one Pod: that of all Pods.
func (s *Source) systemContainers() []stats.ContainerStats {
	g, err := s.c.Tree.Stats(container.PodsCgroup)
	if err != nil {
		return nil // no Pod was ever here
	}
	m := memory(g.Memory, g.At)
	if g.Memory.Limit > 0 {
		m.available(g.Memory.Limit, 0)
	}
	return []stats.ContainerStats{{
		Name: stats.SystemContainerPods, StartTime: metav1.NewTime(s.start), CPU: groupCPU(g), Memory: m.Stats(),
	}}
}

func groupCPU(g cgroup.Stats) *stats.CPUStats {
	return &stats.CPUStats{Time: metav1.NewTime(g.At), UsageCoreNanoSeconds: &g.CPU.Usage, UsageNanoCores: g.CPU.NanoCores}
}

// pods is what each Pod with a sandbox uses.
func (s *Source) pods(ctx context.Context, less bool) ([]stats.PodStats, error) {
	list, err := s.c.Runtime.ListPodSandboxStats(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the runtime what its sandboxes use: %w", err)
	}
	known := map[string]*v1.Pod{}
	for _, p := range s.c.Pods() {
		known[string(p.UID)] = p
	}
	room, home := s.layerRoom(ctx), FileSystem{}
	if !less {
		disks, err := s.Disks(ctx)
		if err != nil {
			return nil, err
		}
		home = disks.Node
	}
	out := make([]stats.PodStats, 0, len(list))
	for _, l := range list {
		p := podStats(l, room)
		if pod := known[p.PodRef.UID]; pod != nil {
			s.addTimes(pod, &p)
			if !less {
				s.addStorage(ctx, pod, home.Room(), &p)
			}
		}
		if less {
			onlyProcessorsAndMemory(&p)
		}
		out = append(out, p)
	}
	return out, nil
}

// addTimes says since when the Pod and its containers are measured.
func (s *Source) addTimes(pod *v1.Pod, out *stats.PodStats) {
	out.StartTime = since(pod.Status.StartTime, s.start)
	times := started(pod)
	for i := range out.Containers {
		t := times[out.Containers[i].Name]
		out.Containers[i].StartTime = since(&t, out.StartTime.Time)
	}
}

// onlyProcessorsAndMemory drops the rest.
func onlyProcessorsAndMemory(p *stats.PodStats) {
	p.Network, p.ProcessStats, p.IO = nil, nil, nil
	for i := range p.Containers {
		p.Containers[i].Rootfs, p.Containers[i].IO = nil, nil
	}
}
