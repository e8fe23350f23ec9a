package node

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/node/config"
	"podium.dev/podium/internal/node/evict"
)

// watchSettings tells of each edit of the settings what the next start would make of it; those in force stay.
func (n *Node) watchSettings(ctx context.Context) {
	path := n.c.Paths.KubeletConfig
	log := klog.FromContext(ctx)
	w := &config.Watch{
		Paths: n.c.Paths, Machine: config.Machine{Swap: n.c.Facts.Swap, Capacity: n.c.Facts.Capacity}, InForce: n.c.Kubelet, Clock: n.c.Clock,
		Refused: func(err error) {
			log.Error(err, "The node's settings were edited, and are refused: those that it was started with stay in force", "path", path)
			n.recorder.Eventf(n.reference(), corev1.EventTypeWarning, "InvalidNodeConfig", "the settings that the node was started with stay in force: %s",
				strings.ReplaceAll(err.Error(), "\n", "; "))
		},
		Differs: func() {
			log.Info("The node's settings were edited: the next start takes them", "path", path)
			n.recorder.Eventf(n.reference(), corev1.EventTypeNormal, "NodeConfigChanged", "%s was edited: the next start takes it, until then the earlier settings stay in force", path)
		},
		Same: func() { log.Info("The node's settings say again what is in force", "path", path) },
	}
	w.Run(ctx)
}

// parallelPulls is the most pulls at once, 0 for no bound.
func parallelPulls(k *kubeletconfig.KubeletConfiguration) int {
	if k.SerializeImagePulls != nil && *k.SerializeImagePulls {
		return 1
	}
	if k.MaxParallelImagePulls != nil {
		return int(*k.MaxParallelImagePulls)
	}
	return 0
}

// maxBackoff is the longest wait before a container is started again, 0 for the default.
func maxBackoff(k *kubeletconfig.KubeletConfiguration) time.Duration {
	if m := k.CrashLoopBackOff.MaxContainerRestartPeriod; m != nil {
		return m.Duration
	}
	return 0
}

// maxPods is the most Pods that the node takes: maxPods, or podsPerCore where that comes to less.
func maxPods(k *kubeletconfig.KubeletConfiguration, capacity corev1.ResourceList) int32 {
	if k.PodsPerCore == 0 {
		return k.MaxPods
	}
	return min(k.MaxPods, int32(capacity.Cpu().Value())*k.PodsPerCore)
}

// kept is what the settings keep from the Pods: kubeReserved and systemReserved.
func kept(k *kubeletconfig.KubeletConfiguration) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, list := range []map[string]string{k.KubeReserved, k.SystemReserved} {
		for name, text := range list {
			if q, err := resource.ParseQuantity(text); err == nil {
				addTo(out, corev1.ResourceName(name), q)
			}
		}
	}
	return out
}

func addTo(list corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
	sum := list[name]
	sum.Add(q)
	list[name] = sum
}

// reserved is what is not for Pods: what is kept from them, and the hard eviction thresholds.
func reserved(k *kubeletconfig.KubeletConfiguration, capacity corev1.ResourceList) corev1.ResourceList {
	out := kept(k)
	thresholds, err := evict.Thresholds(k)
	if err != nil {
		return out // the settings were checked when they were read
	}
	of := map[evict.Signal]corev1.ResourceName{evict.MemoryAvailable: corev1.ResourceMemory, evict.NodeFsAvailable: corev1.ResourceEphemeralStorage}
	for _, t := range thresholds {
		if name, counts := of[t.Signal]; counts && t.Hard() {
			addTo(out, name, t.Value.Of(capacity[name]))
		}
	}
	return out
}
