// Package endpoints maintains, for every Service with a selector, the addresses of the selected Pods, as
// EndpointSlices and as Endpoints.
package endpoints

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/util/loop"
)

// Controller maintains Endpoints and EndpointSlices. It watches neither: it reads those of a Service when
// something about the Service changed, and OnRemoved notifies it of deletions.
type Controller struct {
	client   kubernetes.Interface
	services corelisters.ServiceLister
	pods     corelisters.PodLister
	nodes    corelisters.NodeLister
	synced   []cache.InformerSynced
	loop     *loop.Loop[types.NamespacedName]
}

// New returns a controller.
func New(client kubernetes.Interface, src *sources.Sources, c clock.Clock) *Controller {
	services, pods, nodes := src.All().Core().V1().Services(), src.Pods(), src.Nodes()
	k := &Controller{
		client: client, services: services.Lister(), pods: pods.Lister(), nodes: nodes.Lister(),
		synced: []cache.InformerSynced{services.Informer().HasSynced, pods.Informer().HasSynced, nodes.Informer().HasSynced},
	}
	k.loop = loop.New("endpoints", c, 4, k.sync)
	sources.OnAny(services.Informer(), func(o metav1.Object) { k.loop.Add(sources.NameOf(o)) })
	sources.OnDiff(pods.Informer(), k.onPodChange)
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

// OnRemoved handles the deletion of an object. If this controller maintains the object, it is created again.
func (k *Controller) OnRemoved(resource schema.GroupResource, o metav1.Object) {
	switch {
	case resource == corev1.Resource("endpoints"):
		k.loop.Add(sources.NameOf(o))
	case resource == (schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"}) && o.GetLabels()[discoveryv1.LabelManagedBy] == sliceController:
		k.loop.Add(types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetLabels()[discoveryv1.LabelServiceName]})
	}
}

// onPodChange queues the Services that select the Pod or did so before.
func (k *Controller) onPodChange(old, now *corev1.Pod) {
	if old != nil && now != nil && samePod(old, now) {
		return
	}
	for _, pod := range []*corev1.Pod{old, now} {
		if pod == nil {
			continue
		}
		services, _ := k.services.Services(pod.Namespace).List(labels.Everything()) // the informer's store does not fail
		for _, s := range services {
			if s.Spec.Selector != nil && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				k.loop.Add(sources.NameOf(s))
			}
		}
	}
}

// samePod reports whether two states of a Pod are equal to every Service.
func samePod(a, b *corev1.Pod) bool {
	return podutil.IsReady(a) == podutil.IsReady(b) && podutil.Ended(a) == podutil.Ended(b) && (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		a.Spec.NodeName == b.Spec.NodeName && a.Status.PodIP == b.Status.PodIP &&
		slices.Equal(a.Status.PodIPs, b.Status.PodIPs) && maps.Equal(a.Labels, b.Labels)
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	service, err := k.services.Services(name.Namespace).Get(name.Name)
	if err != nil {
		return 0, k.forget(ctx, name) // the slices are deleted with their owner
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName || service.Spec.Selector == nil {
		return 0, nil // without a selector, the user maintains the endpoints
	}
	pods, err := k.pods.Pods(name.Namespace).List(labels.SelectorFromSet(service.Spec.Selector))
	if err != nil {
		return 0, fmt.Errorf("list the pods of service %s: %w", name, err)
	}
	all := backends(service, pods)
	err = errors.Join(k.writeSlices(ctx, service, all), k.writeEndpoints(ctx, service, all))
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return 0, nil
	}
	return 0, err
}

// forget deletes the Endpoints of a deleted Service if this controller made them.
func (k *Controller) forget(ctx context.Context, name types.NamespacedName) error {
	endpoints := k.client.CoreV1().Endpoints(name.Namespace)
	have, err := endpoints.Get(ctx, name.Name, metav1.GetOptions{})
	if err == nil && have.Labels[managedByEndpoints] == endpointController {
		err = endpoints.Delete(ctx, name.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID}})
	}
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("delete the endpoints of service %s: %w", name, err)
}

func (k *Controller) writeEndpoints(ctx context.Context, service *corev1.Service, all []backend) error {
	endpoints := k.client.CoreV1().Endpoints(service.Namespace)
	have, err := endpoints.Get(ctx, service.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = endpoints.Create(ctx, endpointsOf(service, all, nil), metav1.CreateOptions{})
	case err == nil:
		want := endpointsOf(service, all, have)
		if equality.Semantic.DeepEqual(have, want) {
			return nil
		}
		_, err = endpoints.Update(ctx, want, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write the endpoints of service %s/%s: %w", service.Namespace, service.Name, err)
	}
	return nil
}

func (k *Controller) writeSlices(ctx context.Context, service *corev1.Service, all []backend) error {
	client := k.client.DiscoveryV1().EndpointSlices(service.Namespace)
	list, err := client.List(ctx, metav1.ListOptions{LabelSelector: selectorOf(service.Name)})
	if err != nil {
		return fmt.Errorf("list the endpoint slices of service %s/%s: %w", service.Namespace, service.Name, err)
	}
	have := make([]*discoveryv1.EndpointSlice, 0, len(list.Items))
	for i := range list.Items {
		have = append(have, &list.Items[i])
	}
	c := reconcileSlices(slicesOf(service, all, k.zone), have)
	var errs []error
	for _, s := range c.create {
		_, err := client.Create(ctx, s, metav1.CreateOptions{})
		errs = append(errs, err)
	}
	for _, s := range c.update {
		_, err := client.Update(ctx, s, metav1.UpdateOptions{})
		errs = append(errs, err)
	}
	for _, name := range c.remove {
		if err := client.Delete(ctx, name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write the endpoint slices of service %s/%s: %w", service.Namespace, service.Name, err)
	}
	return nil
}

// zone returns the zone of a node, or "" if it has none.
func (k *Controller) zone(node string) string {
	n, err := k.nodes.Get(node)
	if err != nil {
		return ""
	}
	return n.Labels[corev1.LabelTopologyZone]
}
