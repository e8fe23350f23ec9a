package namespace

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// fine are the conditions of a deletion without problems, in the order in which they are shown.
var fine = []corev1.NamespaceCondition{
	{Type: corev1.NamespaceDeletionDiscoveryFailure, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
	{Type: corev1.NamespaceDeletionGVParsingFailure, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
	{Type: corev1.NamespaceDeletionContentFailure, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"},
	{Type: corev1.NamespaceContentRemaining, Reason: "ContentRemoved", Message: "All content successfully removed"},
	{Type: corev1.NamespaceFinalizersRemaining, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
}

// setConditions writes the outcome of a round into the status. It reports whether anything changed.
func setConditions(status *corev1.NamespaceStatus, r *remains, now time.Time) bool {
	troubles := map[corev1.NamespaceConditionType]corev1.NamespaceCondition{}
	for _, c := range r.troubles() {
		troubles[c.Type] = c
	}
	changed := false
	for _, want := range fine {
		want.Status = corev1.ConditionFalse
		if c, ok := troubles[want.Type]; ok {
			want = c
			want.Status = corev1.ConditionTrue
		}
		want.LastTransitionTime = metav1.NewTime(now)
		changed = setCondition(status, want) || changed
	}
	return changed
}

func setCondition(status *corev1.NamespaceStatus, want corev1.NamespaceCondition) bool {
	for i := range status.Conditions {
		have := &status.Conditions[i]
		if have.Type != want.Type {
			continue
		}
		if have.Status == want.Status {
			want.LastTransitionTime = have.LastTransitionTime
		}
		changed := *have != want
		*have = want
		return changed
	}
	status.Conditions = append(status.Conditions, want)
	return true
}

// troubles returns the conditions that are true.
func (r *remains) troubles() []corev1.NamespaceCondition {
	var out []corev1.NamespaceCondition
	add := func(t corev1.NamespaceConditionType, reason, message string) {
		out = append(out, corev1.NamespaceCondition{Type: t, Reason: reason, Message: message})
	}
	if r.discoveryErr != nil {
		add(corev1.NamespaceDeletionDiscoveryFailure, "DiscoveryFailed", discoveryMessage(r.discoveryErr))
	}
	if r.parseErr != nil {
		add(corev1.NamespaceDeletionGVParsingFailure, "GroupVersionParsingFailed", r.parseErr.Error())
	}
	if n := len(r.contentErrs); n > 0 {
		texts := map[int]error{}
		for i, err := range r.contentErrs {
			texts[i] = err
		}
		all := sortedKeys(texts, func(_ int, err error) string { return err.Error() })
		add(corev1.NamespaceDeletionContentFailure, "ContentDeletionFailed",
			fmt.Sprintf("Failed to delete all resource types, %d remaining: %s", n, strings.Join(all, ", ")))
	}
	if r.waitsForPods {
		return out // nothing else was looked at
	}
	if len(r.objects) > 0 {
		all := sortedKeys(r.objects, func(gvr schema.GroupVersionResource, n int) string {
			return fmt.Sprintf("%s.%s has %d resource instances", gvr.Resource, gvr.Group, n)
		})
		add(corev1.NamespaceContentRemaining, "SomeResourcesRemain", "Some resources are remaining: "+strings.Join(all, ", "))
	}
	if len(r.finalizers) > 0 {
		all := sortedKeys(r.finalizers, func(f string, n int) string {
			return fmt.Sprintf("%s in %d resource instances", f, n)
		})
		add(corev1.NamespaceFinalizersRemaining, "SomeFinalizersRemain",
			"Some content in the namespace has finalizers remaining: "+strings.Join(all, ", "))
	}
	return out
}

func discoveryMessage(err error) string {
	var groups *discovery.ErrGroupDiscoveryFailed
	if errors.As(err, &groups) {
		return fmt.Sprintf("Discovery failed for some groups, %d failing: %v", len(groups.Groups), err)
	}
	return err.Error()
}
