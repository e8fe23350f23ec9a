package service

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// underway is how long an allocation may exist without its service: more than enough for the two writes of a
// create in another API server.
const underway = time.Minute

// repair makes the allocations match the services, once before the first allocation after a start. A crash
// between the two writes of a create or a delete leaves an allocation without a service.
func (r *reservations) repair(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.repaired {
		return nil
	}
	ctx = request.WithNamespace(context.WithoutCancel(ctx), metav1.NamespaceAll)
	obj, err := r.services.List(ctx, &metainternal.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the services: %w", err)
	}
	list := obj.(*corev1.ServiceList).Items
	used, names := sets.New[int32](), sets.New[types.NamespacedName]()
	for i := range list {
		used = used.Union(nodePorts(&list[i])).Insert(list[i].Spec.HealthCheckNodePort)
		names.Insert(types.NamespacedName{Namespace: list[i].Namespace, Name: list[i].Name})
	}
	if err := r.ports.set(ctx, used); err != nil {
		return fmt.Errorf("store the allocated node ports: %w", err)
	}
	if err := r.addresses.sweep(ctx, names); err != nil {
		return err
	}
	r.repaired = true
	return nil
}

// sweep releases the addresses of services that do not exist.
func (a *addresses) sweep(ctx context.Context, services sets.Set[types.NamespacedName]) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	obj, err := store.List(ctx, &metainternal.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the allocated IP addresses: %w", err)
	}
	for _, ip := range obj.(*networkingv1.IPAddressList).Items {
		of := ip.Spec.ParentRef
		if ip.Labels[networkingv1.LabelManagedBy] != manager || of == nil || time.Since(ip.CreationTimestamp.Time) < underway {
			continue
		}
		if services.Has(types.NamespacedName{Namespace: of.Namespace, Name: of.Name}) {
			continue
		}
		if err := a.release(ctx, ip.Name); err != nil {
			return err
		}
	}
	return nil
}
