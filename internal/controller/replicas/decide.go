package replicas

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/controller/podstatus"
)

// active reports whether the Pod counts as a replica: it has not ended and is not being deleted.
func active(p *corev1.Pod) bool { return !ended(p) && p.DeletionTimestamp == nil }

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// claims sorts Pods by their relation to the set.
type claims struct {
	mine    []*corev1.Pod // owned by the set and selected
	adopt   []*corev1.Pod // selected, and without an owner
	release []*corev1.Pod // owned by the set but no longer selected
}

// claim sorts the Pods of the namespace.
func claim(s *set, pods []*corev1.Pod) claims {
	var c claims
	for _, p := range pods {
		owner := metav1.GetControllerOfNoCopy(p)
		selected := s.selector.Matches(labels.Set(p.Labels)) && !s.selector.Empty()
		switch {
		case owner != nil && owner.UID == s.UID && selected:
			c.mine = append(c.mine, p)
		case owner != nil && owner.UID == s.UID:
			c.release = append(c.release, p)
		case owner == nil && selected && active(p):
			c.adopt = append(c.adopt, p)
		}
	}
	return c
}

// statusOf returns the set's status, and the time after which a Pod becomes available just by staying ready (0
// if none does).
func statusOf(s *set, mine []*corev1.Pod, err error, now time.Time) (status, time.Duration) {
	var out status
	var terminating int32
	var again time.Duration
	template := labels.SelectorFromSet(s.template.Labels)
	for _, p := range mine {
		if p.DeletionTimestamp != nil && !ended(p) {
			terminating++
		}
		if !active(p) {
			continue
		}
		out.replicas++
		if template.Matches(labels.Set(p.Labels)) {
			out.labeled++
		}
		at, ready := readySince(p)
		if !ready {
			continue
		}
		out.ready++
		if left := at.Add(s.minReady).Sub(now); s.minReady == 0 || left <= 0 {
			out.available++
		} else if again == 0 || left < again {
			again = left
		}
	}
	if s.kind.Kind == "ReplicaSet" {
		out.terminating = &terminating
	}
	out.observed = s.Generation
	if err != nil {
		reason := "FailedCreate"
		if int(out.replicas) > s.want {
			reason = "FailedDelete"
		}
		out.failure = &failure{reason, err.Error(), metav1.NewTime(now)}
		if have := s.status.failure; have != nil && have.reason == reason {
			out.failure = have
		}
	}
	return out, again
}

// readySince returns since when the Pod has been ready, and whether it is.
func readySince(p *corev1.Pod) (time.Time, bool) {
	c := podstatus.Get(p, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return time.Time{}, false
	}
	return c.LastTransitionTime.Time, true
}

// DeletionCost is the annotation that holds the relative cost of deleting a Pod.
const DeletionCost = "controller.kubernetes.io/pod-deletion-cost"

// dispensable sorts Pods for deletion, the most dispensable first: Pods without a node, not running, not ready,
// of lower deletion cost, on nodes with more Pods of the same owner, ready for a shorter time, with more
// restarts, and younger. all are the Pods whose number per node counts.
func dispensable(pods, all []*corev1.Pod, now time.Time) []*corev1.Pod {
	perNode := map[string]int{}
	for _, p := range all {
		if active(p) {
			perNode[p.Spec.NodeName]++
		}
	}
	out := slices.Clone(pods)
	slices.SortStableFunc(out, func(a, b *corev1.Pod) int {
		at, aReady := readySince(a)
		bt, bReady := readySince(b)
		return cmp.Or(
			first(a.Spec.NodeName == "", b.Spec.NodeName == ""),
			cmp.Compare(phaseOrder(a), phaseOrder(b)),
			first(!aReady, !bReady),
			cmp.Compare(cost(a), cost(b)),
			cmp.Compare(perNode[b.Spec.NodeName], perNode[a.Spec.NodeName]),
			cmp.Compare(age(at, now), age(bt, now)),
			cmp.Compare(restarts(b), restarts(a)),
			cmp.Compare(age(a.CreationTimestamp.Time, now), age(b.CreationTimestamp.Time, now)),
			strings.Compare(string(a.UID), string(b.UID)),
		)
	})
	return out
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func phaseOrder(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	}
	return 0
}

func cost(p *corev1.Pod) int64 {
	n, err := strconv.ParseInt(p.Annotations[DeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return n
}

// age returns the age of a time on a logarithmic scale, so that small differences between old Pods do not
// count.
func age(t, now time.Time) int {
	if d := now.Sub(t); d > 0 && !t.IsZero() {
		return int(math.Log2(float64(d)))
	}
	return -1
}

func restarts(p *corev1.Pod) int32 {
	var most int32
	for _, c := range p.Status.ContainerStatuses {
		most = max(most, c.RestartCount)
	}
	return most
}

// pending records API calls whose effect the watch has not shown yet, so that no Pod is created or deleted
// twice.
type pending struct {
	created, deleted map[types.UID]time.Time
}

// forgetAfter bounds how long the result of an API call overrides the watch.
const forgetAfter = time.Minute

// settle drops what the watch has shown by now, and returns the number of created Pods that it has not shown.
func (p *pending) settle(seen map[types.UID]*corev1.Pod, now time.Time) int {
	for uid, at := range p.created {
		if seen[uid] != nil || now.Sub(at) > forgetAfter {
			delete(p.created, uid)
		}
	}
	for uid, at := range p.deleted {
		if pod := seen[uid]; pod == nil || pod.DeletionTimestamp != nil || now.Sub(at) > forgetAfter {
			delete(p.deleted, uid)
		}
	}
	return len(p.created)
}
