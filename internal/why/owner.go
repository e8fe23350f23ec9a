package why

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"podium.dev/podium/internal/podutil"
)

// explainOwner explains why an object that makes Pods has not made them, and what the Pods it made wait for.
func explainOwner(f *Facts) Explanation {
	o := f.Owner
	out := Explanation{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName(), Unread: f.Unread}
	self := describe(f)
	live := f.FurtherPods
	for _, pod := range f.Pods {
		if isLive(pod.Pod) {
			live++
		}
		if e := explainPod(pod); !e.fine() {
			out.Pods = append(out.Pods, e)
		}
	}
	lacking := self.wanted > live
	if lacking || self.wanted < 0 && self.verdict == "" {
		out.Findings = f.refusals()
	}
	out.Findings = append(out.Findings, self.findings...)
	made := plural(live, "Pod is there", "Pods are there")
	switch {
	case self.verdict != "":
		out.Verdict = self.verdict
	case lacking && len(out.Findings) == 0:
		out.Verdict = fmt.Sprintf("%d wanted, %s, and there is no error: is the controller of this kind running?", self.wanted, made)
		out.Findings = append(out.Findings, Finding{
			About: AboutPod, Reason: "NotMade", Message: fmt.Sprintf("there is no event of an attempt to create a Pod for this %s", o.GetKind()),
			Fix: "a controller for this kind must run against this API server; check that the object is not paused or suspended",
		})
	case lacking && len(out.Findings) > len(self.findings):
		out.Verdict = fmt.Sprintf("%d wanted, %s: the others are refused", self.wanted, made)
	case lacking:
		out.Verdict = fmt.Sprintf("%d wanted, %s", self.wanted, made)
	case len(out.Pods) > 0:
		out.Verdict = fmt.Sprintf("%s, %d with findings", made, len(out.Pods))
	case len(out.Findings) > 0:
		out.Verdict = made + "; see below"
	default:
		out.Verdict = made + ": nothing is in the way"
	}
	return out
}

// refusals returns why the owner's Pods were refused, by the events of attempts or by its conditions, each reason once.
func (f *Facts) refusals() []Finding {
	var out []Finding
	for _, e := range f.events("FailedCreate") {
		finding := f.refusedPod(&e)
		if !slices.ContainsFunc(out, func(o Finding) bool { return o.Message == finding.Message || o.Fix == finding.Fix }) {
			out = append(out, finding)
		}
	}
	if len(out) == 0 {
		return failureConditions(f.Owner)
	}
	return out
}

// over reports whether the Pod has ended.
func (f *Facts) over() bool {
	return podutil.Ended(f.Pod)
}

// fine reports whether there are no findings and the Pod has started.
func (e *Explanation) fine() bool {
	return len(e.Findings) == 0 && len(e.Nodes) == 0 && e.Phase != corev1.PodPending
}

// refusedPod explains why the API server rejected a Pod that a controller wanted to create.
func (f *Facts) refusedPod(e *corev1.Event) Finding {
	out := Finding{About: AboutPod, Reason: e.Reason, Message: e.Message, Since: seen(e)}
	switch {
	case strings.Contains(e.Message, "exceeded quota:"), strings.Contains(e.Message, "failed quota:"):
		out.About = AboutQuota
		out.Object, out.Fix = f.quota(e.Message)
	case limitRange.MatchString(e.Message):
		out.About = AboutQuota
		out.Object, out.Fix = f.limitRange()
	case strings.Contains(e.Message, "violates PodSecurity"):
		out.Fix = "make the Pod's securityContext comply with the level in the namespace's pod-security.kubernetes.io/enforce label"
	case strings.Contains(e.Message, "error looking up service account"), strings.Contains(e.Message, "serviceaccount"):
		out.Fix = "create the ServiceAccount, or correct serviceAccountName"
	case strings.Contains(e.Message, "no PriorityClass"):
		out.Fix = "create the PriorityClass, or correct priorityClassName"
	case strings.Contains(e.Message, "is invalid"):
		out.Fix = "correct the Pod template"
	}
	return out
}

// limitRange matches the messages of a LimitRange's rejection: «maximum memory usage per Container is 1Gi, …».
var limitRange = regexp.MustCompile(`(minimum|maximum) \S+ usage per |limit to request ratio per `)

var quotaName = regexp.MustCompile(`(?:exceeded|failed) quota: ([^,:]+)`)

// quota returns the name of the quota that a message is about, and a fix with the quota's current use.
func (f *Facts) quota(message string) (name, fix string) {
	if m := quotaName.FindStringSubmatch(message); m != nil {
		name = m[1]
	}
	if strings.Contains(message, "must specify") {
		return name, "the quota counts these resources: set requests and limits on each container, or create a LimitRange with defaults"
	}
	for i := range f.Quotas {
		if f.Quotas[i].Name != name {
			continue
		}
		var full []string
		for _, resource := range sortedKeys(f.Quotas[i].Status.Hard) {
			if !strings.Contains(message, resource+"=") {
				continue
			}
			hard, used := f.Quotas[i].Status.Hard[corev1.ResourceName(resource)], f.Quotas[i].Status.Used[corev1.ResourceName(resource)]
			full = append(full, fmt.Sprintf("%s: %s used of %s", resource, used.String(), hard.String()))
		}
		return name, fmt.Sprintf("now %s; delete something that counts, request less, or raise quota %s", strings.Join(full, ", "), name)
	}
	return name, fmt.Sprintf("delete something that counts, request less, or raise quota %s", name)
}

func (f *Facts) limitRange() (name, fix string) {
	var names []string
	for i := range f.Ranges {
		names = append(names, f.Ranges[i].Name)
	}
	name = strings.Join(names, ", ")
	return name, strings.TrimSpace("ask for what the LimitRange allows, or change it: " + name)
}

func sortedKeys(list corev1.ResourceList) []string {
	var out []string
	for name := range list {
		out = append(out, string(name))
	}
	slices.Sort(out)
	return out
}

// failureConditions returns the conditions in which an owner reports that it cannot create its Pods.
func failureConditions(o *unstructured.Unstructured) []Finding {
	var out []Finding
	all, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, item := range all {
		c, ok := item.(map[string]any)
		if !ok || c["type"] != "ReplicaFailure" && c["type"] != "Failed" || c["status"] != "True" {
			continue
		}
		reason, _ := c["reason"].(string)
		message, _ := c["message"].(string)
		out = append(out, Finding{About: AboutPod, Reason: reason, Message: message})
	}
	return out
}

// explainGone explains, from events, what happened to a Pod that does not exist.
func explainGone(f *Facts) Explanation {
	out := Explanation{Kind: "Pod", Namespace: f.Namespace, Name: f.Name, Unread: f.Unread, Verdict: "it does not exist", Missing: true}
	const most = 3
	for i, e := range f.events() {
		if i == most {
			break
		}
		finding := Finding{About: AboutPod, Reason: e.Reason, Message: e.Message, Since: seen(&e)}
		if e.Reason == "FailedCreate" {
			finding = f.refusedPod(&e)
		}
		out.Findings = append(out.Findings, finding)
	}
	switch {
	case len(out.Findings) == 0:
		out.Findings = []Finding{{
			About: AboutPod, Reason: "NotFound", Message: fmt.Sprintf("there is no Pod %s in namespace %s, and no event mentions one", f.Name, f.Namespace),
			Fix: "list the Pods with kubectl get pods -A; ask about their owner as KIND/NAME",
		}}
	case out.Findings[0].Reason == "FailedCreate":
		out.Verdict = "it was never created"
	default:
		out.Verdict = "it no longer exists; the last events about it:"
	}
	return out
}
