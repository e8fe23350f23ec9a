package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	goruntime "runtime"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
)

// object is the Node that the agent registers: what is the agent's to say, without the status.
func (n *Node) object() *corev1.Node {
	o := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: n.c.Name,
			Labels: map[string]string{
				corev1.LabelHostname:      n.c.Facts.Hostname,
				corev1.LabelOSStable:      goruntime.GOOS,
				corev1.LabelArchStable:    goruntime.GOARCH,
				"beta.kubernetes.io/os":   goruntime.GOOS,
				"beta.kubernetes.io/arch": goruntime.GOARCH,
			},
			Annotations: map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
		},
		Spec: corev1.NodeSpec{Taints: n.c.Kubelet.RegisterWithTaints},
	}
	for _, cidr := range n.c.PodCIDRs {
		o.Spec.PodCIDRs = append(o.Spec.PodCIDRs, cidr.String())
	}
	if len(o.Spec.PodCIDRs) > 0 {
		o.Spec.PodCIDR = o.Spec.PodCIDRs[0]
	}
	return o
}

// register makes the Node, or brings the labels of one that is there up to date, and writes its status, so
// that the node is Ready when this returns. It is tried again until the context ends.
func (n *Node) register(ctx context.Context) error {
	var last error
	err := wait.ExponentialBackoffWithContext(ctx, wait.Backoff{Duration: 10 * time.Millisecond, Factor: 1.5, Steps: math.MaxInt32, Cap: 2 * time.Second},
		func(ctx context.Context) (bool, error) {
			last = n.registerOnce(ctx)
			return last == nil, nil
		})
	if err != nil && last != nil {
		return fmt.Errorf("register node %s: %w", n.c.Name, last)
	}
	return err
}

func (n *Node) registerOnce(ctx context.Context) error {
	want := n.object()
	want.Status = status(want.Status, n.observe(ctx))
	nodes := n.c.Client.CoreV1().Nodes()
	made, err := nodes.Create(ctx, want, metav1.CreateOptions{})
	if err == nil {
		n.written(corev1.NodeStatus{}, made)
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	have, err := nodes.Get(ctx, n.c.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if !containsAll(have.Labels, want.Labels) {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": want.Labels, "annotations": want.Annotations}})
		if err != nil {
			return err
		}
		if have, err = nodes.Patch(ctx, n.c.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	before := have.Status
	have.Status = status(before, n.observe(ctx))
	have, err = nodes.UpdateStatus(ctx, have, metav1.UpdateOptions{})
	if err == nil {
		n.written(before, have)
	}
	return err
}

func containsAll(have, want map[string]string) bool {
	merged := maps.Clone(have)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, want)
	return maps.Equal(have, merged)
}

// written takes note of the Node as the API server now has it, and tells what has changed.
func (n *Node) written(before corev1.NodeStatus, o *corev1.Node) {
	n.mu.Lock()
	n.lastWrite, n.uid = n.c.Clock.Now(), o.UID
	n.mu.Unlock()
	n.see(o)
	n.tell(changes(before, o.Status)...)
	n.tellReboot(before, o.Status)
}

// report writes the node's status when it is not what the API server has, or when the last write is as long ago as
// nodeStatusReportFrequency says. What the API server has may be others' word: the node life cycle controller makes
// the conditions of a node that was silent for too long Unknown.
func (n *Node) report(ctx context.Context) error {
	n.mu.Lock()
	last, at := n.seen.Status, n.lastWrite
	n.mu.Unlock()
	now := status(last, n.observe(ctx))
	if sameButHeartbeat(last, now) && n.c.Clock.Since(at) < n.c.Kubelet.NodeStatusReportFrequency.Duration {
		return nil
	}
	nodes := n.c.Client.CoreV1().Nodes()
	patch, err := statusPatch(now)
	if err != nil {
		return err
	}
	made, err := nodes.Patch(ctx, n.c.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		klog.FromContext(ctx).Info("The node object is gone; registering again", "node", n.c.Name)
		return n.registerOnce(ctx)
	}
	if err != nil {
		return fmt.Errorf("write the status of node %s: %w", n.c.Name, err)
	}
	n.written(last, made)
	return nil
}

// statusPatch is a strategic merge patch that makes the stored status s, but for conditions that are others'.
func statusPatch(s corev1.NodeStatus) ([]byte, error) {
	whole, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&s)
	if err != nil {
		return nil, err
	}
	// Addresses merge by type, and a node may have two of one type.
	if addresses, ok := whole["addresses"].([]any); ok {
		whole["addresses"] = append(addresses, map[string]any{"$patch": "replace"})
	}
	return json.Marshal(map[string]any{"status": whole})
}

func sameButHeartbeat(a, b corev1.NodeStatus) bool {
	a, b = *a.DeepCopy(), *b.DeepCopy()
	for _, s := range []*corev1.NodeStatus{&a, &b} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return equality.Semantic.DeepEqual(a, b)
}
