package why

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/scheduler"
	"podium.dev/podium/internal/scheduler/framework"
)

// unplaced explains why a Pod has no node.
func unplaced(f *Facts) ([]Finding, []Node) {
	pod := f.Pod
	if gates := pod.Spec.SchedulingGates; len(gates) > 0 {
		var names []string
		for _, g := range gates {
			names = append(names, g.Name)
		}
		return []Finding{{
			About: AboutScheduling, Object: strings.Join(names, ", "), Reason: corev1.PodReasonSchedulingGated,
			Message: "the scheduler ignores it until these scheduling gates are removed: " + strings.Join(names, ", "),
			Since:   since(pod.CreationTimestamp),
			Fix:     "wait for the gates' owner to remove them, or remove them: kubectl patch pod " + pod.Name + " -n " + pod.Namespace + ` --type=merge -p '{"spec":{"schedulingGates":null}}'`,
		}}, nil
	}
	out := said(pod)
	if c := podutil.Condition(pod, corev1.PodScheduled); c == nil && pod.Spec.SchedulerName != corev1.DefaultSchedulerName {
		return []Finding{{
			About: AboutScheduling, Object: pod.Spec.SchedulerName, Reason: "OtherScheduler", Since: since(pod.CreationTimestamp),
			Message: fmt.Sprintf("it waits for the scheduler %q, which has not reported anything yet", pod.Spec.SchedulerName),
			Fix:     fmt.Sprintf("run a scheduler of this name (or with a profile of it), or recreate the Pod with schedulerName %q", corev1.DefaultSchedulerName),
		}}, nil
	}
	if n := pod.Status.NominatedNodeName; n != "" {
		out = append(out, Finding{
			About: AboutScheduling, Object: n, Reason: "Nominated",
			Message: fmt.Sprintf("room is being made for it on node %s: Pods of lower priority are ending there", n),
			Fix:     "wait for them to end; podium why POD explains what each of them waits for",
		})
	}
	if f.Cluster == nil {
		return out, nil
	}
	if len(f.Cluster.Nodes) == 0 {
		return append(out, Finding{
			About: AboutScheduling, Reason: corev1.PodReasonUnschedulable, Message: "there are no nodes", Fix: "start one with podium up",
		}), nil
	}
	e, err := scheduler.Explain(pod, f.Cluster)
	switch {
	case err != nil:
		return append(out, Finding{About: AboutScheduling, Reason: corev1.PodReasonSchedulerError, Message: err.Error(), Fix: "correct this rule of the Pod"}), nil
	case e.Held != "":
		return append(out, Finding{About: AboutScheduling, Message: e.Held}), nil
	case e.Whole != "":
		return append(out, Finding{About: AboutScheduling, Reason: corev1.PodReasonUnschedulable, Message: e.Whole, Fix: fixForWhole(e.Whole)}), nil
	}
	return out, nodesOf(e)
}

// said returns the scheduler's own last message, from the Pod's condition, which does not expire as events do.
func said(pod *corev1.Pod) []Finding {
	c := podutil.Condition(pod, corev1.PodScheduled)
	if c == nil || c.Status == corev1.ConditionTrue {
		return nil
	}
	return []Finding{{About: AboutScheduling, Reason: c.Reason, Message: c.Message, Since: since(c.LastTransitionTime)}}
}

// fixForWhole suggests a fix for a refusal by the cluster as a whole.
func fixForWhole(message string) string {
	switch {
	case strings.Contains(message, "unbound immediate"):
		return "the claim needs a volume: create a PersistentVolume that matches it, or have its StorageClass provision one; see kubectl describe pvc"
	case strings.Contains(message, "persistentvolumeclaim") && strings.Contains(message, "not found"):
		return "create the claim, or correct its name in the Pod"
	case strings.Contains(message, "conflict"), strings.Contains(message, "didn't satisfy plugin"):
		return "the Pod's own rules exclude each other: no node can satisfy all of them"
	}
	return ""
}

// nodesOf sorts the nodes: those that fit first, then by how few rules keep the Pod off.
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
	r := Refusal{Plugin: d.Plugin, Reason: d.Reason, Message: d.Text, Resource: d.Resource, Needs: d.Needs, Free: d.Free, Of: d.Of, Fix: d.Fix}
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
		return fmt.Sprintf("it has no node yet, and would fit %s now, such as %s: the scheduler has not tried it again yet, or waits for a back-off to end", plural(fitting, "node", "nodes"), e.Nodes[0].Name)
	case len(e.Nodes) == 1:
		return "it has no node: the only one does not fit"
	}
	return fmt.Sprintf("it has no node: none of %d fits", len(e.Nodes))
}
