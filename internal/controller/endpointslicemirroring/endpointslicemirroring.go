// Package endpointslicemirroring mirrors the Endpoints that users write for Services without a selector to
// EndpointSlices, from which the nodes and DNS read (KEP-752).
//
// It watches nothing: the garbage collector, which watches everything, notifies it.
package endpointslicemirroring

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Component is the name of the controller in events.
const Component = "endpoint-slice-mirroring-controller"

// Manager is the value of the label of slices that are mirrors.
const Manager = "endpointslicemirroring-controller.k8s.io"

// Controller keeps the mirrors.
type Controller struct {
	client   kubernetes.Interface
	services corelisters.ServiceLister
	synced   cache.InformerSynced
	loop     *loop.Loop[types.NamespacedName]
	events   record.EventRecorder

	mu sync.Mutex
	// mirrored are the Services that have a mirror.
	mirrored map[types.NamespacedName]bool
}

// New returns a controller.
func New(client kubernetes.Interface, src *sources.Sources, events record.EventRecorder, c clock.Clock) *Controller {
	services := src.All().Core().V1().Services()
	k := &Controller{
		client: client, services: services.Lister(), synced: services.Informer().HasSynced, events: events,
		mirrored: map[types.NamespacedName]bool{},
	}
	k.loop = loop.New("endpointslicemirroring", c, 2, k.sync)
	sources.OnDiff(services.Informer(), func(old, now *corev1.Service) {
		if now == nil && k.has(sources.NameOf(old)) || old != nil && now != nil && (old.Spec.Selector == nil) != (now.Spec.Selector == nil) ||
			old == nil && now != nil && now.Spec.Selector == nil && !own(now) {
			for _, s := range []*corev1.Service{old, now} {
				if s != nil {
					k.loop.Add(sources.NameOf(s))
					return
				}
			}
		}
	})
	return k
}

// own reports whether the Service is that of the API server, which writes its Endpoints and slice itself.
func own(s *corev1.Service) bool {
	return s.Namespace == metav1.NamespaceDefault && s.Name == "kubernetes"
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) { k.loop.RunSynced(ctx, k.synced) }

// OnSeen handles an object of any kind that was found, changed or deleted.
func (k *Controller) OnSeen(resource schema.GroupResource, o metav1.Object, _ bool) {
	switch {
	case resource == corev1.Resource("endpoints"):
		name := sources.NameOf(o)
		s, err := k.services.Services(name.Namespace).Get(name.Name)
		if k.has(name) || err == nil && s.Spec.Selector == nil && o.GetLabels()[discoveryv1.LabelSkipMirror] != "true" {
			k.loop.Add(name)
		}
	case resource == discoveryv1.Resource("endpointslices") && o.GetLabels()[discoveryv1.LabelManagedBy] == Manager:
		name := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetLabels()[discoveryv1.LabelServiceName]}
		k.note(name, true)
		k.loop.Add(name)
	}
}

func (k *Controller) has(name types.NamespacedName) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mirrored[name]
}

func (k *Controller) note(name types.NamespacedName, mirrored bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if mirrored {
		k.mirrored[name] = true
	} else {
		delete(k.mirrored, name)
	}
}

func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	e, err := k.client.CoreV1().Endpoints(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("read the endpoints %s: %w", name, err)
	}
	list, err2 := k.client.DiscoveryV1().EndpointSlices(name.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: fmt.Sprintf("%s=%s,%s=%s", discoveryv1.LabelServiceName, name.Name, discoveryv1.LabelManagedBy, Manager),
	})
	if err2 != nil {
		return 0, fmt.Errorf("list the mirrors of endpoints %s: %w", name, err2)
	}
	have := make([]*discoveryv1.EndpointSlice, 0, len(list.Items))
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			have = append(have, &list.Items[i])
		}
	}
	if err != nil || !k.wanted(e) {
		e = &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	}
	c := decide(e, have)
	if c.invalid > 0 {
		k.events.Eventf(e, corev1.EventTypeWarning, "InvalidIPAddress", "Skipped %d invalid IP addresses when mirroring to EndpointSlices", c.invalid)
	}
	if c.skipped > c.invalid {
		k.events.Eventf(e, corev1.EventTypeWarning, "TooManyAddressesToMirror",
			"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", perSubset, c.skipped)
	}
	err = k.write(ctx, name.Namespace, c)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return 0, nil
	}
	if err != nil {
		if !apierrors.IsConflict(err) {
			k.events.Eventf(e, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating Endpoint Slices for Endpoints %s: %v", name, err)
		}
		return 0, fmt.Errorf("write the mirrors of endpoints %s: %w", name, err)
	}
	k.note(name, len(e.Subsets) > 0)
	return 0, nil
}

// wanted reports whether the Endpoints are to be mirrored.
func (k *Controller) wanted(e *corev1.Endpoints) bool {
	_, election := e.Annotations[resourcelock.LeaderElectionRecordAnnotationKey]
	if election || e.Labels[discoveryv1.LabelSkipMirror] == "true" || e.DeletionTimestamp != nil {
		return false
	}
	s, err := k.services.Services(e.Namespace).Get(e.Name)
	return err == nil && s.Spec.Selector == nil
}

func (k *Controller) write(ctx context.Context, namespace string, c changes) error {
	client := k.client.DiscoveryV1().EndpointSlices(namespace)
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
	return errors.Join(errs...)
}
