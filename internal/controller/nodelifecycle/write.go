package nodelifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/controller/podstatus"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/podutil"
)

// soon is the pause before looking again at a node for which the informer lags behind the server.
const soon = 100 * time.Millisecond

var everything = labels.Everything()

// oldLabels are deprecated labels, each with the newer one that it follows.
var oldLabels = map[string]string{
	"beta.kubernetes.io/os":   corev1.LabelOSStable,
	"beta.kubernetes.io/arch": corev1.LabelArchStable,
}

// declareSilent writes Unknown conditions after the server has confirmed that the lease is as old as it seems:
// a watch that lags must not cost a node its Pods.
func (k *Controller) declareSilent(ctx context.Context, node *corev1.Node, h health, conditions []corev1.NodeCondition) (time.Duration, error) {
	lease, err := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node.Name, metav1.GetOptions{})
	switch {
	case err == nil && lease.ResourceVersion != h.leaseVersion:
		k.onLeaseChange(nil, lease)
		return soon, nil
	case err != nil && !apierrors.IsNotFound(err):
		return 0, fmt.Errorf("read the lease of node %s: %w", node.Name, err)
	}
	wasReady := readiness(node) == corev1.ConditionTrue
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID, "resourceVersion": node.ResourceVersion},
		"status":   map[string]any{"conditions": conditions},
	})
	if err != nil {
		return 0, fmt.Errorf("encode the status patch of node %s: %w", node.Name, err)
	}
	_, err = k.client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	switch {
	case apierrors.IsConflict(err):
		return soon, nil
	case apierrors.IsNotFound(err):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("patch the status of node %s: %w", node.Name, err)
	}
	klog.FromContext(ctx).Info("Node is silent", "node", klog.KObj(node), "lastSign", h.seen)
	if wasReady {
		k.recorder.Eventf(nodeReference(node.Name, string(node.UID)), corev1.EventTypeNormal, "NodeNotReady",
			"Node %s status is now: %s", node.Name, "NodeNotReady")
	}
	return 0, nil
}

// reconcileLabels sets the deprecated labels.
func (k *Controller) reconcileLabels(ctx context.Context, node *corev1.Node) error {
	want := map[string]string{}
	for old, follows := range oldLabels {
		if v, ok := node.Labels[follows]; ok && node.Labels[old] != v {
			want[old] = v
		}
	}
	if len(want) == 0 {
		return nil
	}
	return k.patch(ctx, node, map[string]any{"metadata": map[string]any{"uid": node.UID, "labels": want}})
}

// reconcileTaints sets the taints that follow from the node's conditions. It returns the time after which to
// look again if the NoExecute taint must wait for its turn in the zone.
func (k *Controller) reconcileTaints(ctx context.Context, node *corev1.Node) (time.Duration, error) {
	now := k.clock.Now()
	taints, changed := withNoSchedule(node, now)
	key, wait := k.evictionTurn(node, now)
	taints, more := withNoExecute(taints, key, now)
	if !changed && !more {
		return wait, nil
	}
	if taints == nil {
		taints = []corev1.Taint{}
	}
	err := k.patch(ctx, node, map[string]any{
		"metadata": map[string]any{"uid": node.UID, "resourceVersion": node.ResourceVersion},
		"spec":     map[string]any{"taints": taints},
	})
	if apierrors.IsConflict(err) {
		return soon, nil
	}
	if err == nil && key != "" && !evicting(node) {
		if z := k.zones[zoneOf(node)]; z != nil {
			z.next = now.Add(z.pause)
		}
	}
	return wait, err
}

// evictionTurn returns the NoExecute taint that the node may have now, or how long the taint that it should
// have must wait.
func (k *Controller) evictionTurn(node *corev1.Node, now time.Time) (string, time.Duration) {
	key := evictingKey(readiness(node))
	if key == "" || k.dark {
		return "", 0
	}
	z := k.zones[zoneOf(node)]
	switch {
	case evicting(node) || z == nil:
		return key, 0 // already being evicted; only the reason may have changed
	case z.pause == 0:
		return "", 0
	case now.Before(z.next):
		return "", z.next.Sub(now)
	}
	return key, 0
}

func (k *Controller) patch(ctx context.Context, node *corev1.Node, change map[string]any) error {
	body, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("encode the patch of node %s: %w", node.Name, err)
	}
	_, err = k.client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("patch node %s: %w", node.Name, err)
}

// distrustPods marks the Pods of a silent node as not ready.
func (k *Controller) distrustPods(ctx context.Context, node *corev1.Node) error {
	objs, err := k.byNode.ByIndex(sources.PodsByNode, node.Name)
	if err != nil {
		return fmt.Errorf("find the pods of node %s: %w", node.Name, err)
	}
	var errs []error
	for _, o := range objs {
		pod, ok := o.(*corev1.Pod)
		if !ok {
			continue
		}
		ready := podutil.Condition(pod, corev1.PodReady)
		if ready == nil || ready.Status == corev1.ConditionFalse {
			continue
		}
		c := *ready
		c.Status = corev1.ConditionFalse
		err := podstatus.SetCondition(ctx, k.client, pod, c, k.clock.Now())
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			errs = append(errs, err)
			continue
		}
		k.recorder.Event(podReference(pod), corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	}
	return errors.Join(errs...)
}

func nodeReference(name, uid string) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(uid)}
}

func podReference(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}
