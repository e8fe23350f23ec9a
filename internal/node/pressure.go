package node

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/node/evict"
	"podium.dev/podium/internal/node/gc"
	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/node/stats"
)

// assemblePressure makes the parts that measure the node and keep it from running short of anything.
func (n *Node) assemblePressure(tree *cgroup.Manager, builder *container.Builder, recorder record.EventRecorder) error {
	c := n.c
	machine, err := cgroup.New("/")
	if err != nil {
		return err
	}
	n.stats = stats.New(stats.Config{
		NodeName: c.Name, Capacity: c.Facts.Capacity, Paths: c.Paths, Runtime: c.Runtime, Images: c.Images, Machine: machine, Tree: tree,
		Pods:   func() []*corev1.Pod { return n.workers.Pods() },
		Volume: n.volumes.HostPath, PodLogDir: builder.PodLogDir,
		VolumePeriod: c.Kubelet.VolumeStatsAggPeriod.Duration, Clock: c.Clock,
	})
	n.images = gc.New(gc.Config{
		Policy: gc.Policy{
			High: int(*c.Kubelet.ImageGCHighThresholdPercent), Low: int(*c.Kubelet.ImageGCLowThresholdPercent),
			MinAge: c.Kubelet.ImageMinimumGCAge.Duration, MaxAge: c.Kubelet.ImageMaximumGCAge.Duration,
		},
		Runtime: c.Runtime, Images: c.Images, Room: n.imageRoom, Recorder: recorder, Node: n.reference, Clock: c.Clock,
	})
	n.evictions, err = evict.New(evict.Config{
		Settings: c.Kubelet, Source: evict.Measured{Source: n.stats}, Pods: livePods{n}, Watch: evict.NewWatch(machine, tree),
		FreeContainers: func(ctx context.Context) error { return n.workers.ForgetEnded(ctx) }, FreeImages: n.images.FreeAll,
		OnChange: n.reportSoon, Recorder: recorder, Node: n.reference, Clock: c.Clock,
	})
	return err
}

// imageRoom is how much the file system of images has, and how much of it is free.
func (n *Node) imageRoom(ctx context.Context) (capacity, available uint64, err error) {
	disks, err := n.stats.Disks(ctx)
	return disks.Images.Capacity, disks.Images.Available, err
}

// reportSoon has the node's status written without waiting for its time.
func (n *Node) reportSoon() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// pressure is what the node is short of.
func (n *Node) pressure() Pressure {
	conditions := n.evictions.Conditions()
	has := func(c corev1.NodeConditionType) bool { return slices.Contains(conditions, c) }
	return Pressure{Memory: has(corev1.NodeMemoryPressure), Disk: has(corev1.NodeDiskPressure), PID: has(corev1.NodePIDPressure)}
}

// livePods are the workers' Pods: the workers are made after what looks after them.
type livePods struct{ n *Node }

// Active implements evict.Pods.
func (l livePods) Active() []*corev1.Pod { return l.n.workers.Active() }

// Evict implements evict.Pods.
func (l livePods) Evict(uid types.UID, why pod.Verdict) <-chan struct{} {
	return l.n.workers.Evict(uid, why)
}
