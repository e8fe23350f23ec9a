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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	sliceutil "k8s.io/endpointslice/util"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/util/loop"
)

// The components named in events.
const (
	Component      = "endpoint-controller"
	SliceComponent = "endpoint-slice-controller"
)

// Controller maintains Endpoints and EndpointSlices. It watches the slices once there is a Service with a
// selector. It does not watch Endpoints: it reads those of a Service when something about the Service changed,
// and OnSeen notifies it of those that it does not expect.
type Controller struct {
	client   kubernetes.Interface
	services corelisters.ServiceLister
	pods     corelisters.PodLister
	nodes    corelisters.NodeLister
	synced   []cache.InformerSynced
	loop     *loop.Loop[types.NamespacedName]
	slices   *sliceWriter
	triggers *sliceutil.TriggerTimeTracker
	events   record.EventRecorder
}

// New returns a controller. The recorders are those of Component and of SliceComponent.
func New(client kubernetes.Interface, src *sources.Sources, events, sliceEvents record.EventRecorder, c clock.Clock) *Controller {
	services, pods, nodes := src.All().Core().V1().Services(), src.Pods(), src.Nodes()
	k := &Controller{
		client: client, services: services.Lister(), pods: pods.Lister(), nodes: nodes.Lister(),
		synced:   []cache.InformerSynced{services.Informer().HasSynced, pods.Informer().HasSynced, nodes.Informer().HasSynced},
		triggers: sliceutil.NewTriggerTimeTracker(), events: events,
	}
	k.loop = loop.New("endpoints", c, 4, k.sync)
	k.slices = newSliceWriter(client, nodes.Lister(), sliceEvents, k.loop.Add)
	sources.OnAny(services.Informer(), func(o metav1.Object) { k.loop.Add(sources.NameOf(o)) })
	sources.OnDiff(pods.Informer(), k.onPodChange)
	sources.OnDiff(nodes.Informer(), k.onNodeChange)
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	defer k.slices.wait()
	k.loop.RunSynced(ctx, k.synced...)
}

// OnSeen handles Endpoints that were found, changed or deleted: those of a Service are created again, and those
// that are left of a deleted one are deleted.
func (k *Controller) OnSeen(resource schema.GroupResource, o metav1.Object, gone bool) {
	if resource != corev1.Resource("endpoints") {
		return
	}
	_, err := k.services.Services(o.GetNamespace()).Get(o.GetName())
	if gone == (err == nil) && (gone || o.GetLabels()[managedByEndpoints] == endpointController) {
		k.loop.Add(sources.NameOf(o))
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

// onNodeChange tells the hints of topology of nodes that came, went, or changed in what the hints depend on.
func (k *Controller) onNodeChange(old, now *corev1.Node) {
	if old != nil && now != nil && sameTopology(old, now) {
		return
	}
	all, _ := k.nodes.List(labels.Everything()) // the informer's store does not fail
	k.slices.setNodes(all)
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	service, err := k.services.Services(name.Namespace).Get(name.Name)
	if err != nil {
		k.triggers.DeleteService(name.Namespace, name.Name)
		k.slices.forget(name) // the slices are deleted with their owner
		return 0, k.deleteEndpoints(ctx, name)
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName || service.Spec.Selector == nil {
		return 0, nil // without a selector, the user maintains the endpoints
	}
	pods, err := k.pods.Pods(name.Namespace).List(labels.SelectorFromSet(service.Spec.Selector))
	if err != nil {
		return 0, fmt.Errorf("list the pods of service %s: %w", name, err)
	}
	behind, err := k.slices.behind(ctx, service)
	if err != nil {
		return 0, err
	}
	if behind {
		return loop.Behind, nil
	}
	trigger := k.triggers.ComputeEndpointLastChangeTriggerTime(name.Namespace, service, pods)
	err = errors.Join(k.slices.write(ctx, service, pods, trigger), k.writeEndpoints(ctx, service, backends(service, pods), trigger))
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return 0, nil
	}
	return 0, err
}

// deleteEndpoints deletes the Endpoints of a deleted Service, whoever made them.
func (k *Controller) deleteEndpoints(ctx context.Context, name types.NamespacedName) error {
	err := k.client.CoreV1().Endpoints(name.Namespace).Delete(ctx, name.Name, metav1.DeleteOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("delete the endpoints of service %s: %w", name, err)
}

func (k *Controller) writeEndpoints(ctx context.Context, service *corev1.Service, all []backend, trigger time.Time) error {
	endpoints := k.client.CoreV1().Endpoints(service.Namespace)
	have, err := endpoints.Get(ctx, service.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		have = endpointsOf(service, all, nil, trigger)
		if _, err = endpoints.Create(ctx, have, metav1.CreateOptions{}); err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			k.events.Eventf(have, corev1.EventTypeWarning, "FailedToCreateEndpoint", "Failed to create endpoint for service %v/%v: %v", service.Namespace, service.Name, err)
		}
	case err == nil:
		want := endpointsOf(service, all, have, trigger)
		if want == nil {
			return nil
		}
		if _, err = endpoints.Update(ctx, want, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
			k.events.Eventf(want, corev1.EventTypeWarning, "FailedToUpdateEndpoint", "Failed to update endpoint %v/%v: %v", service.Namespace, service.Name, err)
		}
	}
	if err != nil {
		return fmt.Errorf("write the endpoints of service %s/%s: %w", service.Namespace, service.Name, err)
	}
	return nil
}
