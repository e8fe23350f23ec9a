package why

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// explainOwner says why what makes Pods has not made them, and what those that it made wait for.
func explainOwner(f *Facts) Explanation {
	o := f.Owner
	out := Explanation{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName(), Unread: f.Unread}
	for _, e := range f.events("FailedCreate") {
		finding := f.refusedPod(&e)
		if !slices.ContainsFunc(out.Findings, func(o Finding) bool { return o.Message == finding.Message || o.Mend == finding.Mend }) {
			out.Findings = append(out.Findings, finding)
		}
	}
	if len(out.Findings) == 0 {
		out.Findings = failureConditions(o)
	}
	for _, pod := range f.Pods {
		if e := explainPod(pod); !e.fine() {
			out.Pods = append(out.Pods, e)
		}
	}
	wanted, known, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
	made := plural(len(f.Pods), "Pod is there", "Pods are there")
	switch {
	case known && int(wanted) > len(f.Pods) && len(out.Findings) == 0:
		out.Verdict = fmt.Sprintf("%d wanted, %s, and nothing says why: does the controller of this kind run?", wanted, made)
		out.Findings = append(out.Findings, Finding{
			About: AboutPod, Reason: "NotMade", Message: fmt.Sprintf("no event tells of a try to make a Pod for this %s", o.GetKind()),
			Mend: "a controller for this kind must run against this API server; see that the template is not paused or suspended",
		})
	case known && int(wanted) > len(f.Pods):
		out.Verdict = fmt.Sprintf("%d wanted, %s: the others are refused", wanted, made)
	case len(out.Pods) > 0:
		out.Verdict = fmt.Sprintf("%s, %d not as it should be", made, len(out.Pods))
	case len(out.Findings) > 0:
		out.Verdict = made + "; see below"
	default:
		out.Verdict = made + ": nothing is in the way"
	}
	return out
}

// fine says whether nothing is in the Pod's way.
func (e *Explanation) fine() bool {
	return len(e.Findings) == 0 && len(e.Nodes) == 0 && e.Phase != corev1.PodPending
}

// refusedPod says why the API server did not take a Pod that a controller wanted to make.
func (f *Facts) refusedPod(e *corev1.Event) Finding {
	out := Finding{About: AboutPod, Reason: e.Reason, Message: e.Message, Since: seen(e)}
	switch {
	case strings.Contains(e.Message, "exceeded quota:"), strings.Contains(e.Message, "failed quota:"):
		out.About = AboutQuota
		out.Object, out.Mend = f.quota(e.Message)
	case limitRange.MatchString(e.Message):
		out.About = AboutQuota
		out.Object, out.Mend = f.limitRange()
	case strings.Contains(e.Message, "violates PodSecurity"):
		out.Mend = "have the Pod's securityContext keep to the level that the namespace's pod-security.kubernetes.io/enforce label asks for"
	case strings.Contains(e.Message, "error looking up service account"), strings.Contains(e.Message, "serviceaccount"):
		out.Mend = "make the ServiceAccount, or correct serviceAccountName"
	case strings.Contains(e.Message, "no PriorityClass"):
		out.Mend = "make the PriorityClass, or correct priorityClassName"
	case strings.Contains(e.Message, "is invalid"):
		out.Mend = "correct the Pod template"
	}
	return out
}

// limitRange matches the words of a LimitRange's refusal: «maximum memory usage per Container is 1Gi, …».
var limitRange = regexp.MustCompile(`(minimum|maximum) \S+ usage per |limit to request ratio per `)

var quotaName = regexp.MustCompile(`(?:exceeded|failed) quota: ([^,:]+)`)

// quota names the quota that a message is about, and says how full it is.
func (f *Facts) quota(message string) (name, mend string) {
	if m := quotaName.FindStringSubmatch(message); m != nil {
		name = m[1]
	}
	if strings.Contains(message, "must specify") {
		return name, "the quota counts these resources: say requests and limits of each container, or make a LimitRange with defaults"
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
		return name, fmt.Sprintf("now %s; delete something that counts, ask for less, or raise quota %s", strings.Join(full, ", "), name)
	}
	return name, fmt.Sprintf("delete something that counts, ask for less, or raise quota %s", name)
}

func (f *Facts) limitRange() (name, mend string) {
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

// failureConditions are the conditions by which an owner says that it cannot make its Pods.
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

// explainGone tells what events tell of a Pod that is not there.
func explainGone(f *Facts) Explanation {
	out := Explanation{Kind: "Pod", Namespace: f.Namespace, Name: f.Name, Unread: f.Unread, Verdict: "it does not exist"}
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
			About: AboutPod, Reason: "NotFound", Message: fmt.Sprintf("there is no Pod %s in namespace %s, and no event speaks of one", f.Name, f.Namespace),
			Mend: "see which there are: kubectl get pods -A; what makes Pods is asked about as KIND/NAME",
		}}
	case out.Findings[0].Reason == "FailedCreate":
		out.Verdict = "it was never made"
	default:
		out.Verdict = "it is gone; the last that is known of it:"
	}
	return out
}
