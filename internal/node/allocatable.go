package node

import (
	"context"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/node/qos"
	"podium.dev/podium/internal/node/stats"
)

// enforceAgain is how long after the Pods were found to have more than they may it is tried again to hold them to it.
const enforceAgain = time.Minute

// enforce holds the Pods together to what the node has for them, as enforceNodeAllocatable asks; the words are the
// kubelet's. It is tried again until it can be done: eviction makes the Pods fit meanwhile.
func (n *Node) enforce(ctx context.Context) {
	reserved := corev1.ResourceList{}
	if slices.Contains(n.c.Kubelet.EnforceNodeAllocatable, "pods") {
		reserved = kept(n.c.Kubelet)
	}
	capacity := maps.Clone(n.c.Facts.Capacity)
	if tasks, err := stats.ReadTasks(); err == nil {
		capacity[qos.PIDs] = *resource.NewQuantity(tasks.Most, resource.DecimalSI)
	}
	for ctx.Err() == nil {
		err := n.cgroups.Enforce(capacity, reserved)
		if err == nil {
			n.recorder.Event(n.reference(), corev1.EventTypeNormal, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
			return
		}
		klog.FromContext(ctx).Error(err, "The Pods are not held to what the node has for them, trying again")
		n.recorder.Eventf(n.reference(), corev1.EventTypeWarning, "FailedNodeAllocatableEnforcement", "Failed to update Node Allocatable Limits: %v", err)
		select {
		case <-ctx.Done():
		case <-n.c.Clock.After(enforceAgain):
		}
	}
}
