package node

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"podium.dev/podium/internal/node/oom"
)

// conditionEvents names the event of each condition that becomes true or false, as the kubelet does.
var conditionEvents = map[corev1.NodeConditionType]struct{ yes, no string }{
	corev1.NodeReady:          {"NodeReady", "NodeNotReady"},
	corev1.NodeMemoryPressure: {"NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
	corev1.NodeDiskPressure:   {"NodeHasDiskPressure", "NodeHasNoDiskPressure"},
	corev1.NodePIDPressure:    {"NodeHasInsufficientPID", "NodeHasSufficientPID"},
}

// changes returns the events of what has changed between two statuses of the node.
func changes(old, now corev1.NodeStatus) []string {
	var out []string
	for _, c := range now.Conditions {
		names, known := conditionEvents[c.Type]
		if !known || statusOf(old, c.Type) == c.Status {
			continue
		}
		switch c.Status {
		case corev1.ConditionTrue:
			out = append(out, names.yes)
		case corev1.ConditionFalse:
			out = append(out, names.no)
		}
	}
	return out
}

func statusOf(s corev1.NodeStatus, t corev1.NodeConditionType) corev1.ConditionStatus {
	for _, c := range s.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

// tell records events of the node.
func (n *Node) tell(reasons ...string) {
	for _, reason := range reasons {
		n.recorder.Eventf(n.reference(), corev1.EventTypeNormal, reason, "Node %s status is now: %s", n.c.Name, reason)
	}
}

// sink is where events go. It waits with the first until the API server can be reached: an event that cannot be
// written is tried again seconds later, and holds up all that come after it.
func (n *Node) sink(ctx context.Context) record.EventSink {
	return waitingSink{&typedcorev1.EventSinkImpl{Interface: n.c.Client.CoreV1().Events("")}, ctx, n.c.Reachable}
}

type waitingSink struct {
	record.EventSink
	ctx       context.Context
	reachable <-chan struct{}
}

// Create is the first thing that happens to any event.
func (w waitingSink) Create(event *corev1.Event) (*corev1.Event, error) {
	select {
	case <-w.reachable:
	case <-w.ctx.Done():
	}
	return w.EventSink.Create(event)
}

// tellStart records that the node agent has started, once the Node is there to tell it of.
func (n *Node) tellStart() {
	n.recorder.Event(n.reference(), corev1.EventTypeNormal, "Starting", "Starting kubelet.")
}

// tellReboot records that the machine was booted since the last status was written.
func (n *Node) tellReboot(old, now corev1.NodeStatus) {
	if boot := now.NodeInfo.BootID; old.NodeInfo.BootID != "" && old.NodeInfo.BootID != boot {
		n.recorder.Eventf(n.reference(), corev1.EventTypeWarning, "Rebooted", "Node %s has been rebooted, boot id: %s", n.c.Name, boot)
	}
}

// tellSchedulable records that the node was cordoned or uncordoned; a Node that was not seen before counts as
// one that takes Pods.
func (n *Node) tellSchedulable(old, now *corev1.Node) {
	switch was := old != nil && old.Spec.Unschedulable; {
	case !was && now.Spec.Unschedulable:
		n.tell("NodeNotSchedulable")
	case was && !now.Spec.Unschedulable:
		n.tell("NodeSchedulable")
	}
}

// watchMemory tells of processes that the kernel kills for memory until the context ends.
func (n *Node) watchMemory(ctx context.Context) {
	var machine sync.WaitGroup
	machine.Go(func() { oom.WatchMachine(ctx, n.reference, n.recorder) })
	oom.WatchContainers(ctx, n.c.Kills, n.workers, n.recorder)
	machine.Wait()
}
