package node

import (
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/node/hook"
	"podium.dev/podium/internal/node/object"
	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/node/probe"
	"podium.dev/podium/internal/node/pull"
	"podium.dev/podium/internal/node/shutdown"
	"podium.dev/podium/internal/node/static"
	"podium.dev/podium/internal/node/sysctl"
	"podium.dev/podium/internal/node/volume"
	"podium.dev/podium/internal/node/worker"
)

// assemble makes the parts of the agent and tells each of those it uses.
func (n *Node) assemble(recorder record.EventRecorder) error {
	c := n.c
	n.objects = object.NewStore(object.Config{Client: c.Client, Clock: c.Clock})
	n.objects.OnChange(n.objectChanged)
	n.volumes = volume.NewManager(volume.Config{
		NodeName: c.Name, Allocatable: n.allocatable, HostIPs: n.hostIPs, Paths: c.Paths,
		Objects: n.objects, Client: c.Client, Recorder: recorder, Clock: c.Clock,
	})
	sysctls, err := sysctl.New(c.Kubelet.AllowedUnsafeSysctls, c.Facts.KernelVersion)
	if err != nil {
		return fmt.Errorf("allowedUnsafeSysctls: %w", err)
	}
	groups, err := cgroup.New(c.Paths.CgroupParent)
	if err != nil {
		return err
	}
	n.cgroups = container.NewPodCgroups(groups, c.Paths, c.Kubelet)
	builder := container.NewBuilder(container.Config{
		NodeName: c.Name, HostIPs: n.hostIPs, Allocatable: n.allocatable, Paths: c.Paths, Kubelet: c.Kubelet,
		Objects: n.objects, Cgroups: n.cgroups, Volumes: n.volumes, Recorder: recorder, Node: n.reference,
	})
	probes := probe.New(probe.Config{
		Runtime: c.Runtime, Recorder: recorder, Clock: c.Clock,
		OnChange: func(uid types.UID) { n.workers.Wake(uid) },
	})
	images := pull.New(pull.Config{
		Images: c.Images, Recorder: recorder, Clock: c.Clock, MaxParallel: parallelPulls(c.Kubelet),
		Secret:          n.objects.Secret,
		NodeCredentials: filepath.Join(c.Paths.Kubelet, "config.json"),
		Records:         c.Paths.PullRecords,
	})
	if err := n.assemblePressure(groups, builder, recorder); err != nil {
		return err
	}
	n.mirrors = static.NewMirrors(static.MirrorConfig{
		Client: c.Client, NodeName: c.Name, NodeUID: n.objectUID, Sources: n.sources().Names(), Running: n.runsStatic, Clock: c.Clock,
	})
	n.shutdown = shutdown.New(shutdown.Config{
		Periods: shutdown.Periods(c.Kubelet), Pods: livePods{n}, Recorder: recorder, Node: n.reference, OnChange: n.reportSoon, Clock: c.Clock,
	})
	n.workers = worker.New(worker.Config{
		Runtime: c.Runtime, ImageService: c.Images, Images: images, Client: c.Client, Recorder: recorder,
		Builder: builder, Volumes: n.volumes, Probes: probes,
		Hooks:   &hook.Runner{Runtime: c.Runtime, Recorder: recorder, Clock: c.Clock},
		Cgroups: n.cgroups,
		Admit:   []func(*corev1.Pod, []*corev1.Pod) *pod.Verdict{n.shutdown.Admit, n.evictions.Admit, sysctls.Admit, container.AdmitAppArmor, pod.AdmitPorts(c.OwnPorts)},
		Node:    n.node, HostIPs: n.hostIPs, Sources: append(n.sources().Names(), worker.SourceAPI),
		PullProgress: c.PullProgress, OnEnd: n.staticEnded, Marks: c.Paths.HookMarks, RuntimeHandler: n.runtimeHandler,
		Policies:    c.Policies,
		Allocations: c.Paths.Allocations,
		MaxBackoff:  maxBackoff(c.Kubelet), RecursiveReadOnly: container.ThisMachine().RecursiveReadOnly, Clock: c.Clock,
	})
	return nil
}

// objectChanged has the Pods that refer to an object try again at once what failed for want of it.
func (n *Node) objectChanged(kind, namespace, name string) {
	if kind == object.KindService {
		return
	}
	for _, uid := range n.objects.Users(kind, namespace, name) {
		n.workers.Retry(uid)
	}
}
