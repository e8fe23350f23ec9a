// Package why says why a Pod does not run, is not ready, or was never made, and what would mend it.
//
// Gather reads the objects through the ordinary API, with the rights of whoever asks; Explain works the answer
// out from them and from nothing else; Write puts it into words. The reasons and the messages that are cited
// are Kubernetes' own.
package why

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The areas that a finding can be about.
const (
	AboutScheduling = "scheduling"
	AboutImage      = "image"
	AboutVolume     = "volume"
	AboutContainer  = "container"
	AboutProbe      = "probe"
	AboutLimit      = "limit"
	AboutQuota      = "quota"
	AboutDeletion   = "deletion"
	AboutNode       = "node"
	AboutSandbox    = "sandbox"
	AboutPod        = "pod"
)

// Explanation is the answer.
type Explanation struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Phase is the Pod's, "" for what is no Pod.
	Phase corev1.PodPhase `json:"phase,omitempty"`
	// Verdict is the answer in a sentence.
	Verdict string `json:"verdict"`
	// Findings are what is in the way, the most telling first.
	Findings []Finding `json:"findings,omitempty"`
	// Nodes say for each node what keeps a Pod without a node off it, the nearest to fitting first.
	Nodes []Node `json:"nodes,omitempty"`
	// Pods are those of an owner that do not run.
	Pods []Explanation `json:"pods,omitempty"`
	// Unread is what could not be looked at, and so is not part of the answer.
	Unread []string `json:"unread,omitempty"`
}

// Finding is one thing that is in the way.
type Finding struct {
	// About is the area, Object the container, volume or other thing of it.
	About  string `json:"about"`
	Object string `json:"object,omitempty"`
	// Reason is Kubernetes' word for it.
	Reason string `json:"reason,omitempty"`
	// Message says what is the matter, with amounts.
	Message string `json:"message"`
	// Since is when it began or was last seen, Next when it is tried again.
	Since *metav1.Time `json:"since,omitempty"`
	Next  *metav1.Time `json:"next,omitempty"`
	// Mend is what would help, "" when only waiting does.
	Mend string `json:"mend,omitempty"`
}

// Node is what keeps the Pod off a node; nothing, when it would fit now.
type Node struct {
	Name    string    `json:"name"`
	Refused []Refusal `json:"refused,omitempty"`
}

// Refusal is one rule that keeps the Pod off a node.
type Refusal struct {
	// Plugin is the scheduler's rule, Reason its word as it is counted in the Pod's condition.
	Plugin string `json:"plugin"`
	Reason string `json:"reason"`
	// Message is the reason with amounts and names. The amounts are also given each, for resources.
	Message  string   `json:"message"`
	Resource string   `json:"resource,omitempty"`
	Needs    string   `json:"needs,omitempty"`
	Free     string   `json:"free,omitempty"`
	Of       string   `json:"of,omitempty"`
	Holders  []Holder `json:"holders,omitempty"`
	Mend     string   `json:"mend,omitempty"`
}

// Holder is a Pod that holds what is short, and how much of it.
type Holder struct {
	Pod    string `json:"pod"`
	Amount string `json:"amount,omitempty"`
}

// Explain says why what was asked about does not run.
func Explain(f *Facts) Explanation {
	switch {
	case f.Pod != nil:
		return explainPod(f)
	case f.Owner != nil:
		return explainOwner(f)
	}
	return explainGone(f)
}

// events answers with the events about an object that have one of the reasons, the latest first.
func (f *Facts) events(reasons ...string) []corev1.Event {
	var out []corev1.Event
	for _, e := range f.Events {
		if len(reasons) == 0 || slices.Contains(reasons, e.Reason) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b corev1.Event) int { return lastSeen(&b).Compare(lastSeen(&a)) })
	return out
}

// lastSeen is when an event last happened.
func lastSeen(e *corev1.Event) time.Time {
	at := e.CreationTimestamp.Time
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if t.After(at) {
			at = t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(at) {
		at = e.Series.LastObservedTime.Time
	}
	return at
}

// seen is lastSeen for a finding.
func seen(e *corev1.Event) *metav1.Time {
	t := metav1.NewTime(lastSeen(e))
	return &t
}

// since is a time for a finding; nil for none.
func since(t metav1.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// plural counts things in English.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
