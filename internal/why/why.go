// Package why explains why a Pod does not run, is not ready or was never created, and suggests a fix.
//
// Reader reads the objects through the API, with the caller's rights. Explain derives the explanation from them
// and from nothing else. Write formats it as text. Reasons and cited messages are those of Kubernetes.
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
	AboutRollout    = "rollout"
	AboutJob        = "job"
	AboutScaling    = "scaling"
)

// Explanation is the result of Explain.
type Explanation struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Phase is the Pod's phase, or "" if the object is not a Pod.
	Phase corev1.PodPhase `json:"phase,omitempty"`
	// Verdict summarizes the explanation in a sentence.
	Verdict string `json:"verdict"`
	// Findings are what is in the way, the most significant first.
	Findings []Finding `json:"findings,omitempty"`
	// Nodes list, for a Pod without a node, what keeps it off each node. The node closest to fitting is first.
	Nodes []Node `json:"nodes,omitempty"`
	// Pods are the Pods of an owner that do not run.
	Pods []Explanation `json:"pods,omitempty"`
	// Unread lists what could not be read and is therefore not considered.
	Unread []string `json:"unread,omitempty"`
	// Missing is set if there is no such object.
	Missing bool `json:"missing,omitempty"`
}

// Finding is one obstacle.
type Finding struct {
	// About is the area. Object is the container, volume or other object in it.
	About  string `json:"about"`
	Object string `json:"object,omitempty"`
	// Reason is Kubernetes' reason.
	Reason string `json:"reason,omitempty"`
	// Message describes the obstacle, with amounts.
	Message string `json:"message"`
	// Since is when it began or was last seen, Next when it is retried.
	Since *metav1.Time `json:"since,omitempty"`
	Next  *metav1.Time `json:"next,omitempty"`
	// Fix is what would help, or "" if only waiting does.
	Fix string `json:"fix,omitempty"`
}

// Node is what keeps the Pod off a node. It has no refusals if the Pod would fit now.
type Node struct {
	Name    string    `json:"name"`
	Refused []Refusal `json:"refused,omitempty"`
}

// Refusal is one rule that keeps the Pod off a node.
type Refusal struct {
	// Plugin is the scheduler's plugin, Reason its reason as counted in the Pod's condition.
	Plugin string `json:"plugin"`
	Reason string `json:"reason"`
	// Message is the reason with amounts and names. For resources, the amounts are also given separately.
	Message  string   `json:"message"`
	Resource string   `json:"resource,omitempty"`
	Needs    string   `json:"needs,omitempty"`
	Free     string   `json:"free,omitempty"`
	Of       string   `json:"of,omitempty"`
	Holders  []Holder `json:"holders,omitempty"`
	Fix      string   `json:"fix,omitempty"`
}

// Holder is a Pod that holds some of what is short, and the amount.
type Holder struct {
	Pod    string `json:"pod"`
	Amount string `json:"amount,omitempty"`
}

// Explain explains why the object does not run.
func Explain(f *Facts) Explanation {
	switch {
	case f.Pod != nil:
		return explainPod(f)
	case f.Owner != nil:
		return explainOwner(f)
	case f.Service != nil:
		return explainService(f)
	}
	return explainGone(f)
}

// events returns the events about an object that have one of the reasons, the latest first.
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

// lastSeen returns when an event last occurred.
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

// seen returns lastSeen in the form that findings use.
func seen(e *corev1.Event) *metav1.Time {
	t := metav1.NewTime(lastSeen(e))
	return &t
}

// since converts a time for a finding. The zero time becomes nil.
func since(t metav1.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// plural formats a count with its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
