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

// underway is how long a reservation may be without its service: the time that the two writes of a create take
// in another API server, and plenty.
const underway = time.Minute

// repair makes the reservations go with the services, once before the first is made since the start: a crash
// between the two writes of a create or a delete leaves something reserved for nobody.
func (r *reservations) repair(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.repaired {
		return nil
	}
	ctx = request.WithNamespace(context.WithoutCancel(ctx), metav1.NamespaceAll)
	obj, err := r.services.List(ctx, &metainternal.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the services to see what is reserved for them: %w", err)
	}
	list := obj.(*corev1.ServiceList).Items
	used, names := sets.New[int32](), sets.New[types.NamespacedName]()
	for i := range list {
		used = used.Union(nodePorts(&list[i])).Insert(list[i].Spec.HealthCheckNodePort)
		names.Insert(types.NamespacedName{Namespace: list[i].Namespace, Name: list[i].Name})
	}
	if err := r.ports.set(ctx, used); err != nil {
		return fmt.Errorf("store which node ports are in use: %w", err)
	}
	if err := r.addresses.sweep(ctx, names); err != nil {
		return err
	}
	r.repaired = true
	return nil
}

// sweep frees the addresses of services that are not there.
func (a *addresses) sweep(ctx context.Context, services sets.Set[types.NamespacedName]) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	obj, err := store.List(ctx, &metainternal.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the IP addresses that are reserved for services: %w", err)
	}
	for _, ip := range obj.(*networkingv1.IPAddressList).Items {
		of := ip.Spec.ParentRef
		if ip.Labels[networkingv1.LabelManagedBy] != manager || of == nil || time.Since(ip.CreationTimestamp.Time) < underway {
			continue
		}
		if services.Has(types.NamespacedName{Namespace: of.Namespace, Name: of.Name}) {
			continue
		}
		if err := a.giveBack(ctx, ip.Name); err != nil {
			return err
		}
	}
	return nil
}
