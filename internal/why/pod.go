package why

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/podutil"
)

// explainPod follows a Pod's life cycle and collects what is in the way at each stage.
func explainPod(f *Facts) Explanation {
	pod := f.Pod
	out := Explanation{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, Phase: pod.Status.Phase, Unread: f.Unread}
	out.Findings = append(out.Findings, ending(f)...)
	switch {
	case pod.Status.Phase == corev1.PodFailed:
		out.Findings = append(out.Findings, failed(f)...)
	case pod.Status.Phase == corev1.PodSucceeded:
	case pod.Spec.NodeName == "":
		findings, nodes := unplaced(f)
		out.Findings, out.Nodes = append(out.Findings, findings...), nodes
	default:
		out.Findings = append(out.Findings, onNode(f)...)
	}
	out.Verdict = verdict(f, &out)
	return out
}

// onNode returns what is in the way of a Pod that has a node.
func onNode(f *Facts) []Finding {
	var out []Finding
	out = append(out, nodeTrouble(f)...)
	out = append(out, room(f)...)
	out = append(out, sources(f)...)
	out = append(out, claims(f)...)
	out = append(out, mounts(f)...)
	out = append(out, sandbox(f)...)
	out = append(out, containers(f)...)
	out = append(out, conditions(f)...)
	return out
}

// nodeTrouble returns what is wrong with the Pod's node.
func nodeTrouble(f *Facts) []Finding {
	name := f.Pod.Spec.NodeName
	if f.Node == nil {
		if len(f.Unread) > 0 {
			return nil
		}
		return []Finding{{
			About: AboutNode, Object: name, Reason: "NodeNotFound", Message: fmt.Sprintf("the Pod is bound to node %s, which does not exist", name),
			Fix: "delete the Pod, or start the node again under this name",
		}}
	}
	for _, c := range f.Node.Status.Conditions {
		if c.Type != corev1.NodeReady || c.Status == corev1.ConditionTrue {
			continue
		}
		fix := "fix what the message reports; the node's log has the details"
		if c.Status == corev1.ConditionUnknown {
			fix = "the node agent has stopped reporting: start it, or delete the Pod with --force --grace-period=0 if the machine is gone for good"
		}
		return []Finding{{
			About: AboutNode, Object: name, Reason: c.Reason, Message: "the node is not ready: " + c.Message,
			Since: since(c.LastTransitionTime), Fix: fix,
		}}
	}
	return nil
}

// room explains what a Pod waits for that its node has not taken in: such a Pod has no start time, and nothing of its
// status is the node's.
func room(f *Facts) []Finding {
	all := f.events("WaitingForRoom")
	if f.Pod.Status.StartTime != nil || len(all) == 0 {
		return nil
	}
	e := &all[0]
	return []Finding{{
		About: AboutNode, Object: f.Pod.Spec.NodeName, Reason: e.Reason, Message: e.Message, Since: seen(e),
		Fix: "it starts by itself as soon as they have ended; if that takes long, the node's log has what keeps them",
	}}
}

// sandbox explains why the Pod has no sandbox.
func sandbox(f *Facts) []Finding {
	if c := podutil.Condition(f.Pod, corev1.PodReadyToStartContainers); c == nil || c.Status == corev1.ConditionTrue {
		return nil
	}
	all := f.events("FailedCreatePodSandBox", "FailedSync")
	if len(all) == 0 {
		return nil
	}
	e, fix := &all[0], "check the node's log for the step that failed"
	switch {
	case strings.Contains(e.Message, "cni"), strings.Contains(e.Message, "network"):
		fix = "fix the network plugin or its configuration on the node"
	case strings.Contains(e.Message, "handler") || strings.Contains(e.Message, "RuntimeClass"):
		fix = "use a RuntimeClass whose handler the node's runtime has, or none"
	}
	return []Finding{{About: AboutSandbox, Reason: e.Reason, Message: e.Message, Since: seen(e), Fix: fix}}
}

// conditions returns findings from the Pod's conditions that its containers' states do not cover.
func conditions(f *Facts) []Finding {
	var out []Finding
	for _, gate := range f.Pod.Spec.ReadinessGates {
		c := podutil.Condition(f.Pod, gate.ConditionType)
		if c != nil && c.Status == corev1.ConditionTrue {
			continue
		}
		finding := Finding{
			About: AboutPod, Object: string(gate.ConditionType), Reason: "ReadinessGatesNotReady",
			Message: fmt.Sprintf("the readiness gate's condition %s is not set", gate.ConditionType),
			Fix:     "the owner of this condition must set it to True in the Pod's status",
		}
		if c != nil {
			finding.Message = fmt.Sprintf("the readiness gate's condition %s is %s: %s", gate.ConditionType, c.Status, c.Message)
			finding.Since = since(c.LastTransitionTime)
		}
		out = append(out, finding)
	}
	if c := podutil.Condition(f.Pod, corev1.PodResizePending); c != nil && c.Status == corev1.ConditionTrue {
		fix := "the node can never provide that much: request less"
		if c.Reason == corev1.PodReasonDeferred {
			fix = "it is granted as soon as other Pods on the node free enough; delete or shrink some, or request less"
		}
		out = append(out, Finding{About: AboutLimit, Object: "resize", Reason: c.Reason, Message: c.Message, Since: since(c.LastTransitionTime), Fix: fix})
	}
	if c := podutil.Condition(f.Pod, corev1.PodResizeInProgress); c != nil && c.Status == corev1.ConditionTrue && c.Message != "" {
		out = append(out, Finding{About: AboutLimit, Object: "resize", Reason: c.Reason, Message: c.Message, Since: since(c.LastTransitionTime)})
	}
	return out
}

// verdict summarizes the explanation in a sentence.
func verdict(f *Facts, e *Explanation) string {
	pod := f.Pod
	ready := podutil.Condition(pod, corev1.PodReady)
	switch {
	case pod.DeletionTimestamp != nil:
		return "it is being deleted"
	case pod.Status.Phase == corev1.PodSucceeded:
		return "all its containers have succeeded"
	case pod.Status.Phase == corev1.PodFailed:
		return "it has failed and is not restarted"
	case pod.Spec.NodeName == "" && len(pod.Spec.SchedulingGates) > 0:
		return "it is held back by its scheduling gates"
	case pod.Spec.NodeName == "":
		return unplacedVerdict(e)
	case ready != nil && ready.Status == corev1.ConditionTrue && len(e.Findings) == 0:
		return fmt.Sprintf("it runs on node %s and is ready: nothing is in its way", pod.Spec.NodeName)
	case ready != nil && ready.Status == corev1.ConditionTrue:
		return fmt.Sprintf("it runs on node %s and is ready, with findings", pod.Spec.NodeName)
	case pod.Status.Phase == corev1.PodRunning:
		return fmt.Sprintf("it runs on node %s and is not ready", pod.Spec.NodeName)
	case len(e.Findings) > 0:
		return fmt.Sprintf("it has node %s and does not start", pod.Spec.NodeName)
	}
	text := fmt.Sprintf("it is being started on node %s", pod.Spec.NodeName)
	if last := f.events(); len(last) > 0 {
		text += "; the last step: " + last[0].Message
	}
	return text
}
