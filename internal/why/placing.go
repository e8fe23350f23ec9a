package why

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/scheduler"
	"podium.dev/podium/internal/scheduler/framework"
)

// unplaced says why a Pod has no node.
func unplaced(f *Facts) ([]Finding, []Node) {
	pod := f.Pod
	if gates := pod.Spec.SchedulingGates; len(gates) > 0 {
		var names []string
		for _, g := range gates {
			names = append(names, g.Name)
		}
		return []Finding{{
			About: AboutScheduling, Object: strings.Join(names, ", "), Reason: corev1.PodReasonSchedulingGated,
			Message: "no scheduler looks at it before these scheduling gates are taken off: " + strings.Join(names, ", "),
			Since:   since(pod.CreationTimestamp),
			Mend:    "whoever set a gate takes it off; by hand: kubectl patch pod " + pod.Name + " -n " + pod.Namespace + ` --type=merge -p '{"spec":{"schedulingGates":null}}'`,
		}}, nil
	}
	out := said(pod)
	if c := condition(pod, corev1.PodScheduled); c == nil && pod.Spec.SchedulerName != corev1.DefaultSchedulerName {
		return []Finding{{
			About: AboutScheduling, Object: pod.Spec.SchedulerName, Reason: "OtherScheduler", Since: since(pod.CreationTimestamp),
			Message: fmt.Sprintf("it waits for the scheduler %q, of which it has heard nothing yet", pod.Spec.SchedulerName),
			Mend:    fmt.Sprintf("run a scheduler of this name (or a profile of it), or make the Pod with schedulerName %q", corev1.DefaultSchedulerName),
		}}, nil
	}
	if n := pod.Status.NominatedNodeName; n != "" {
		out = append(out, Finding{
			About: AboutScheduling, Object: n, Reason: "Nominated",
			Message: fmt.Sprintf("room is being made for it on node %s: Pods of lower priority are ending there", n),
			Mend:    "wait for them to end; podium why POD says of each what it waits for",
		})
	}
	if f.Cluster == nil {
		return out, nil
	}
	if len(f.Cluster.Nodes) == 0 {
		return append(out, Finding{
			About: AboutScheduling, Reason: corev1.PodReasonUnschedulable, Message: "there are no nodes", Mend: "start one: podium up",
		}), nil
	}
	e, err := scheduler.Explain(pod, f.Cluster)
	switch {
	case err != nil:
		return append(out, Finding{About: AboutScheduling, Reason: corev1.PodReasonSchedulerError, Message: err.Error(), Mend: "correct this rule of the Pod"}), nil
	case e.Held != "":
		return append(out, Finding{About: AboutScheduling, Message: e.Held}), nil
	case e.Whole != "":
		return append(out, Finding{About: AboutScheduling, Reason: corev1.PodReasonUnschedulable, Message: e.Whole, Mend: mendOfWhole(e.Whole)}), nil
	}
	return out, nodesOf(e)
}

// said is what the scheduler itself has said last, in the Pod's condition, which does not expire as events do.
func said(pod *corev1.Pod) []Finding {
	c := condition(pod, corev1.PodScheduled)
	if c == nil || c.Status == corev1.ConditionTrue {
		return nil
	}
	return []Finding{{About: AboutScheduling, Reason: c.Reason, Message: c.Message, Since: since(c.LastTransitionTime)}}
}

// mendOfWhole says what helps against a refusal by the cluster as a whole.
func mendOfWhole(message string) string {
	switch {
	case strings.Contains(message, "unbound immediate"):
		return "the claim needs a volume: make a PersistentVolume that it matches, or have its StorageClass provisioned; see: kubectl describe pvc"
	case strings.Contains(message, "persistentvolumeclaim") && strings.Contains(message, "not found"):
		return "make the claim, or correct its name in the Pod"
	case strings.Contains(message, "conflict"), strings.Contains(message, "didn't satisfy plugin"):
		return "the Pod's own rules exclude each other: no node can satisfy all of them"
	}
	return ""
}

// nodesOf puts the nodes into order: those that fit first, then by how little keeps the Pod off.
func nodesOf(e scheduler.Explanation) []Node {
	out := make([]Node, 0, len(e.Nodes))
	for _, n := range e.Nodes {
		node := Node{Name: n.Node}
		for _, d := range n.Details {
			node.Refused = append(node.Refused, refusalOf(d))
		}
		out = append(out, node)
	}
	slices.SortStableFunc(out, func(a, b Node) int {
		return cmp.Or(cmp.Compare(len(a.Refused), len(b.Refused)), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func refusalOf(d framework.Detail) Refusal {
	r := Refusal{Plugin: d.Plugin, Reason: d.Reason, Message: d.Text, Resource: d.Resource, Needs: d.Needs, Free: d.Free, Of: d.Of, Mend: d.Mend}
	if d.Resource != "" {
		r.Message = d.Resource + ": " + r.Message
	}
	for _, h := range d.Holders {
		r.Holders = append(r.Holders, Holder{h.Pod, h.Amount})
	}
	return r
}

func unplacedVerdict(e *Explanation) string {
	if len(e.Nodes) == 0 {
		return "it has no node"
	}
	fitting := slices.IndexFunc(e.Nodes, func(n Node) bool { return len(n.Refused) > 0 })
	switch {
	case fitting < 0:
		fitting = len(e.Nodes)
		fallthrough
	case fitting > 0:
		return fmt.Sprintf("it has no node yet, and would fit %s now, such as %s: the scheduler has not come to it, or waits out a back-off", plural(fitting, "node", "nodes"), e.Nodes[0].Name)
	case len(e.Nodes) == 1:
		return "it has no node: the only one does not fit"
	}
	return fmt.Sprintf("it has no node: none of %d fits", len(e.Nodes))
}
