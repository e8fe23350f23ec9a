package pod

import (
	"context"
	goerrors "errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/component-helpers/apps/poddisruptionbudget"
)

// maxPending is how many evictions the keeper of a budget may not have seen yet. More mean that it is not at work.
const maxPending = 2000

// budgets returns the disruption budgets that guard a Pod.
func (r *evictionREST) budgets(ctx context.Context, pod *corev1.Pod) ([]policyv1.PodDisruptionBudget, error) {
	store := r.lookup(policyv1.Resource("poddisruptionbudgets"))
	if store == nil {
		return nil, nil
	}
	list, err := store.List(genericapirequest.WithNamespace(ctx, pod.Namespace), nil)
	if err != nil {
		return nil, fmt.Errorf("list the disruption budgets of namespace %s: %w", pod.Namespace, err)
	}
	var found []policyv1.PodDisruptionBudget
	for _, b := range list.(*policyv1.PodDisruptionBudgetList).Items {
		// A budget with a faulty selector guards nothing.
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, b)
		}
	}
	return found, nil
}

// unreadyMayGo reports whether a budget lets Pods go that are not ready: always, or when enough others are.
func unreadyMayGo(b *policyv1.PodDisruptionBudget) bool {
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// takeFrom takes a disruption from a budget, or says that there is none. It reads the budget again when
// another change of it comes between.
func (r *evictionREST) takeFrom(ctx context.Context, b *policyv1.PodDisruptionBudget, pod *corev1.Pod, dryRun bool) error {
	store := r.lookup(policyv1.Resource("poddisruptionbudgets"))
	ctx = genericapirequest.WithNamespace(ctx, b.Namespace)
	key, err := store.KeyFunc(ctx, b.Name)
	if err != nil {
		return err
	}
	now := metav1.NewTime(r.clock.Now())
	return store.Storage.GuaranteedUpdate(ctx, key, &policyv1.PodDisruptionBudget{}, false, nil, storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		b := obj.(*policyv1.PodDisruptionBudget)
		return b, take(b, pod.Name, now)
	}), dryRun, nil)
}

// take takes a disruption from a budget and notes for which Pod, so that the budget's keeper does not count
// the Pod any more. The error says why there is none.
func take(b *policyv1.PodDisruptionBudget, pod string, now metav1.Time) error {
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return tooManyRequests(b.Name)
	case b.Status.DisruptionsAllowed < 0:
		return forbidden(b.Name, "pdb disruptions allowed is negative", "pdb disruptions allowed is negative")
	case len(b.Status.DisruptedPods) > maxPending:
		return forbidden(b.Name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
			"too many pending evictions not confirmed by PDB controller")
	case b.Status.DisruptionsAllowed == 0:
		return withCause(errors.NewTooManyRequests(violation, 0), shortage(b))
	}
	b.Status.DisruptionsAllowed--
	if b.Status.DisruptionsAllowed == 0 {
		poddisruptionbudget.UpdateDisruptionAllowedCondition(b)
	}
	if b.Status.DisruptedPods == nil {
		b.Status.DisruptedPods = map[string]metav1.Time{}
	}
	b.Status.DisruptedPods[pod] = now
	return nil
}

// shortage says why a budget allows no disruption.
func shortage(b *policyv1.PodDisruptionBudget) string {
	budget := "The disruption budget " + b.Name
	c := meta.FindStatusCondition(b.Status.Conditions, policyv1.DisruptionAllowedCondition)
	said := c != nil && c.Status == metav1.ConditionFalse && c.Message != ""
	switch {
	case said && c.Reason == policyv1.SyncFailedReason:
		return fmt.Sprintf("%s does not allow evicting pods currently because it failed sync: %s", budget, c.Message)
	case b.Status.CurrentHealthy <= b.Status.DesiredHealthy:
		return fmt.Sprintf("%s needs %d healthy pods and has %d currently", budget, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
	case said:
		return fmt.Sprintf("%s does not allow evicting pods currently (%s): %s", budget, c.Reason, c.Message)
	}
	return budget + " does not allow evicting pods currently"
}

const violation = "Cannot evict pod as it would violate the pod's disruption budget."

// retrySeconds is when a client may try again where the budget's keeper is only behind.
const retrySeconds = 10

func tooManyRequests(budget string) error {
	return withCause(errors.NewTooManyRequests(violation, retrySeconds), fmt.Sprintf("The disruption budget %s is still being processed by the server.", budget))
}

func forbidden(budget, reason, cause string) error {
	err := errors.NewForbidden(policyv1.Resource("poddisruptionbudget"), budget, goerrors.New(reason))
	return withCause(err, fmt.Sprintf("The disruption budget %s does not allow evicting pods currently: %s", budget, cause))
}

func withCause(err *errors.StatusError, message string) error {
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: message})
	return err
}
