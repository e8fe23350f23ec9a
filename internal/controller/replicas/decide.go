package replicas

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/podutil"
)

// statusOf returns the set's status, and the time after which a Pod becomes available just by staying ready (0
// if none does).
func statusOf(s *set, mine []*corev1.Pod, err error, now time.Time) (status, time.Duration) {
	var out status
	var terminating int32
	var again time.Duration
	template := labels.SelectorFromSet(s.template.Labels)
	for _, p := range mine {
		if p.DeletionTimestamp != nil && !podutil.Ended(p) {
			terminating++
		}
		if !podcontrol.Active(p) {
			continue
		}
		out.replicas++
		if template.Matches(labels.Set(p.Labels)) {
			out.labeled++
		}
		if _, ready := podcontrol.ReadySince(p); !ready {
			continue
		}
		out.ready++
		if ok, left := podcontrol.Available(p, s.minReady, now); ok {
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
