package node

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// leaseInterval is a quarter of the lease's life, as the kubelet renews it.
func leaseInterval(seconds int32) time.Duration { return time.Duration(seconds) * time.Second / 4 }

// renew writes the node's lease, making it when it is not there. held is what was written last, or nil; the
// answer is what to pass next time.
func (n *Node) renew(ctx context.Context, held *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	leases := n.c.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now := metav1.NewMicroTime(n.c.Clock.Now())
	if held != nil {
		next := held.DeepCopy()
		next.Spec.RenewTime = &now
		made, err := leases.Update(ctx, next, metav1.UpdateOptions{})
		if err == nil || !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return made, err
		}
	}
	have, err := leases.Get(ctx, n.c.Name, metav1.GetOptions{})
	if err == nil {
		have.Spec.HolderIdentity, have.Spec.RenewTime = &n.c.Name, &now
		have.Spec.LeaseDurationSeconds = &n.c.Kubelet.NodeLeaseDurationSeconds
		return leases.Update(ctx, have, metav1.UpdateOptions{})
	}
	if !apierrors.IsNotFound(err) {
		return nil, err
	}
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: n.c.Name, Namespace: corev1.NamespaceNodeLease},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       &n.c.Name,
			LeaseDurationSeconds: &n.c.Kubelet.NodeLeaseDurationSeconds,
			RenewTime:            &now,
		},
	}
	if node, err := n.c.Client.CoreV1().Nodes().Get(ctx, n.c.Name, metav1.GetOptions{}); err == nil {
		lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
	}
	return leases.Create(ctx, lease, metav1.CreateOptions{})
}
