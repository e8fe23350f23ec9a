package disruption

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"podium.dev/podium/internal/podutil"
)

// deletionTimeout is how long a granted eviction counts as in progress. A Pod that is not being deleted by then
// is taken as not evicted (DeletionTimeout of Kubernetes' disruption controller).
const deletionTimeout = 2 * time.Minute

// needsScale reports whether the budget depends on the number of Pods that the owners want, not on a number of
// existing Pods.
func needsScale(pdb *policyv1.PodDisruptionBudget) bool {
	return pdb.Spec.MaxUnavailable != nil || pdb.Spec.MinAvailable != nil && pdb.Spec.MinAvailable.Type == intstr.String
}

// expectation returns how many Pods there should be and how many of them must stay healthy. scale is the sum of
// the replicas that the Pods' owners want; it is used only if needsScale reports true.
func expectation(pdb *policyv1.PodDisruptionBudget, pods, scale int) (expected, desired int32, err error) {
	switch spec := pdb.Spec; {
	case spec.MaxUnavailable != nil:
		n, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, scale, true)
		if err != nil {
			return 0, 0, fmt.Errorf("read spec.maxUnavailable: %w", err)
		}
		return int32(scale), int32(max(scale-n, 0)), nil
	case spec.MinAvailable == nil:
		return 0, 0, nil
	case spec.MinAvailable.Type == intstr.Int:
		return int32(pods), spec.MinAvailable.IntVal, nil
	default:
		n, err := intstr.GetScaledValueFromIntOrPercent(spec.MinAvailable, scale, true)
		if err != nil {
			return 0, 0, fmt.Errorf("read spec.minAvailable: %w", err)
		}
		return int32(scale), int32(n), nil
	}
}

// underWay returns the granted evictions whose Pod is not being deleted yet, the time until the first of them
// expires (0 if there is none), and the Pods that should have been deleted but were not.
func underWay(granted map[string]metav1.Time, pods []*corev1.Pod, now time.Time) (left map[string]metav1.Time, again time.Duration, late []*corev1.Pod) {
	left = map[string]metav1.Time{}
	for _, pod := range pods {
		at, ok := granted[pod.Name]
		if !ok || pod.DeletionTimestamp != nil {
			continue
		}
		wait := at.Add(deletionTimeout).Sub(now)
		if wait < 0 {
			late = append(late, pod)
			continue
		}
		left[pod.Name] = at
		if again == 0 || wait < again {
			again = max(wait, time.Millisecond)
		}
	}
	return left, again, late
}

// healthy counts the Pods that are ready and not about to be deleted.
func healthy(pods []*corev1.Pod, leaving map[string]metav1.Time) int32 {
	var n int32
	for _, pod := range pods {
		if _, going := leaving[pod.Name]; going || pod.DeletionTimestamp != nil || !podutil.IsReady(pod) {
			continue
		}
		n++
	}
	return n
}

// statusOf returns the budget's status.
func statusOf(pdb *policyv1.PodDisruptionBudget, current, desired, expected int32, leaving map[string]metav1.Time, now time.Time) policyv1.PodDisruptionBudgetStatus {
	status := *pdb.Status.DeepCopy()
	status.CurrentHealthy, status.DesiredHealthy, status.ExpectedPods = current, desired, expected
	status.DisruptedPods = leaving
	status.ObservedGeneration = pdb.Generation
	// If no Pod is expected, nothing may be disrupted: the first Pod may exist before this status counts it.
	status.DisruptionsAllowed = 0
	if expected > 0 {
		status.DisruptionsAllowed = max(current-desired, 0)
	}
	c := metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason,
		ObservedGeneration: pdb.Generation, LastTransitionTime: metav1.NewTime(now),
	}
	if status.DisruptionsAllowed > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	meta.SetStatusCondition(&status.Conditions, c)
	return status
}

// failedStatus returns the status of a budget that cannot be computed: nothing may be disrupted.
func failedStatus(pdb *policyv1.PodDisruptionBudget, err error, now time.Time) policyv1.PodDisruptionBudgetStatus {
	status := *pdb.Status.DeepCopy()
	status.DisruptionsAllowed = 0
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason,
		Message: err.Error(), ObservedGeneration: status.ObservedGeneration, LastTransitionTime: metav1.NewTime(now),
	})
	return status
}

func sameStatus(a, b policyv1.PodDisruptionBudgetStatus) bool {
	return equality.Semantic.DeepEqual(a, b)
}
