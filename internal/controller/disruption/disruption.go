// Package disruption maintains the status of PodDisruptionBudgets: how many of the Pods that a budget selects
// may be evicted now. The eviction subresource and the scheduler's preemption depend on it.
package disruption

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/podstatus"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/util/loop"
)

// Component is the source of the controller's events.
const Component = "controllermanager"

// staleAfter is how long a Pod may be marked as a disruption's target without being deleted.
const staleAfter = 2 * time.Minute

// Controller maintains the budgets' status, and withdraws the marks of disruptions that did not happen.
type Controller struct {
	client   kubernetes.Interface
	recorder record.EventRecorder
	pods     corelisters.PodLister
	budgets  policylisters.PodDisruptionBudgetLister
	synced   []cache.InformerSynced
	clock    clock.Clock
	loop     *loop.Loop[types.NamespacedName]
	stale    *loop.Loop[types.NamespacedName]
	scales   *scales
}

// New returns a controller.
func New(client kubernetes.Interface, src *sources.Sources, recorder record.EventRecorder, c clock.Clock) *Controller {
	pods, budgets := src.Pods(), src.All().Policy().V1().PodDisruptionBudgets()
	k := &Controller{
		client: client, recorder: recorder, clock: c, scales: newScales(client),
		pods: pods.Lister(), budgets: budgets.Lister(),
		synced: []cache.InformerSynced{pods.Informer().HasSynced, budgets.Informer().HasSynced},
	}
	k.loop = loop.New("disruption", c, 2, k.sync)
	k.stale = loop.New("disruption-stale", c, 1, k.syncStale)
	sources.OnChange(budgets.Informer(), func(o metav1.Object) { k.loop.Add(sources.NameOf(o)) })
	sources.OnDiff(pods.Informer(), k.onPodChange)
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), k.synced...) {
		return
	}
	done := make(chan struct{})
	go func() { k.stale.Run(ctx); close(done) }()
	k.loop.Run(ctx)
	<-done
}

func (k *Controller) onPodChange(old, now *corev1.Pod) {
	for _, pod := range []*corev1.Pod{old, now} {
		if pod == nil {
			continue
		}
		budgets, _ := k.budgets.PodDisruptionBudgets(pod.Namespace).List(labels.Everything()) // the informer's store does not fail
		for _, pdb := range budgets {
			if sel, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector); err == nil && sel.Matches(labels.Set(pod.Labels)) {
				k.loop.Add(sources.NameOf(pdb))
			}
		}
	}
	if now != nil && announced(now) {
		k.stale.Add(sources.NameOf(now))
	}
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	pdb, err := k.budgets.PodDisruptionBudgets(name.Namespace).Get(name.Name)
	if err != nil {
		return 0, nil
	}
	status, again, err := k.compute(ctx, pdb)
	if err != nil {
		// A budget that cannot be computed must not allow evictions.
		if werr := k.write(ctx, pdb, failedStatus(pdb, err, k.clock.Now())); werr != nil {
			return 0, werr
		}
		return 0, fmt.Errorf("compute budget %s: %w", name, err)
	}
	return again, k.write(ctx, pdb, status)
}

func (k *Controller) compute(ctx context.Context, pdb *policyv1.PodDisruptionBudget) (policyv1.PodDisruptionBudgetStatus, time.Duration, error) {
	sel, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
	if err != nil {
		return policyv1.PodDisruptionBudgetStatus{}, 0, fmt.Errorf("read spec.selector: %w", err)
	}
	pods, err := k.pods.Pods(pdb.Namespace).List(sel)
	if err != nil {
		return policyv1.PodDisruptionBudgetStatus{}, 0, fmt.Errorf("list the pods: %w", err)
	}
	if len(pods) == 0 {
		k.recorder.Eventf(pdb, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	scale := 0
	if needsScale(pdb) {
		var unmanaged bool
		if scale, unmanaged, err = k.scales.sum(ctx, pods); err != nil {
			k.recorder.Eventf(pdb, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
			return policyv1.PodDisruptionBudgetStatus{}, 0, err
		}
		if unmanaged {
			k.recorder.Eventf(pdb, corev1.EventTypeWarning, "UnmanagedPods", "Pods selected by this PodDisruptionBudget (selector: %v) were found "+
				"to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "+
				"To account for these pods please set \".spec.minAvailable\" "+
				"field of the PDB to an integer value.", pdb.Spec.Selector)
		}
	}
	expected, desired, err := expectation(pdb, len(pods), scale)
	if err != nil {
		return policyv1.PodDisruptionBudgetStatus{}, 0, err
	}
	now := k.clock.Now()
	leaving, again, late := underWay(pdb.Status.DisruptedPods, pods, now)
	for _, pod := range late {
		k.recorder.Eventf(pod, corev1.EventTypeWarning, "NotDeleted", "Pod was expected by PDB %s/%s to be deleted but it wasn't", pdb.Namespace, pdb.Name)
	}
	return statusOf(pdb, healthy(pods, leaving), desired, expected, leaving, now), again, nil
}

func (k *Controller) write(ctx context.Context, pdb *policyv1.PodDisruptionBudget, status policyv1.PodDisruptionBudgetStatus) error {
	if sameStatus(pdb.Status, status) {
		return nil
	}
	out := pdb.DeepCopy()
	out.Status = status
	_, err := k.client.PolicyV1().PodDisruptionBudgets(pdb.Namespace).UpdateStatus(ctx, out, metav1.UpdateOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("write the status of budget %s/%s: %w", pdb.Namespace, pdb.Name, err)
}

// announced reports whether the Pod is marked as the target of a disruption, by someone other than its node
// agent, and is not being deleted.
func announced(pod *corev1.Pod) bool {
	c := podutil.Condition(pod, corev1.DisruptionTarget)
	return c != nil && c.Status == corev1.ConditionTrue && c.Reason != corev1.PodReasonTerminationByKubelet &&
		pod.DeletionTimestamp == nil && !podutil.Ended(pod)
}

// syncStale withdraws the mark of a disruption that has not happened in time.
func (k *Controller) syncStale(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	pod, err := k.pods.Pods(name.Namespace).Get(name.Name)
	if err != nil || !announced(pod) {
		return 0, nil
	}
	if left := staleAfter - k.clock.Since(podutil.Condition(pod, corev1.DisruptionTarget).LastTransitionTime.Time); left > 0 {
		return left, nil
	}
	err = podstatus.SetCondition(ctx, k.client, pod, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, ObservedGeneration: pod.Generation,
	}, k.clock.Now())
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil
	}
	return 0, err
}
