package endpoints

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/endpointslice"
	"k8s.io/endpointslice/topologycache"
	sliceutil "k8s.io/endpointslice/util"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/controller/sources"
)

// perSlice is the maximum number of endpoints in a slice (kube-controller-manager's --max-endpoints-per-slice).
const perSlice = 100

// sliceController is the manager named in the slices' labels.
const sliceController = "endpointslice-controller.k8s.io"

// byService is the index of slices by the Service that they belong to.
const byService = "service"

// sliceWriter makes the slices of a Service match its Pods. What a slice should be, and with how few writes, is
// decided by k8s.io/endpointslice, the library of upstream's controller. The slices are watched from the first
// Service with a selector on.
type sliceWriter struct {
	client     kubernetes.Interface
	queue      func(types.NamespacedName)
	tracker    *sliceutil.EndpointSliceTracker
	topology   *topologycache.TopologyCache
	reconciler *endpointslice.Reconciler
	events     record.EventRecorder

	start   sync.Once
	factory informers.SharedInformerFactory
	watched cache.SharedIndexInformer
}

func newSliceWriter(client kubernetes.Interface, nodes corelisters.NodeLister, events record.EventRecorder, queue func(types.NamespacedName)) *sliceWriter {
	w := &sliceWriter{
		client: client, queue: queue, events: events,
		tracker: sliceutil.NewEndpointSliceTracker(), topology: topologycache.NewTopologyCache(),
	}
	w.factory = informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTransform(withoutManagedFields),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.LabelSelector = discoveryv1.LabelManagedBy + "=" + sliceController
		}))
	w.reconciler = endpointslice.NewReconciler(client, nodes, perSlice, w.tracker, w.topology, events, sliceController,
		endpointslice.WithPreferSameTrafficDistributionEnabled(true))
	return w
}

// watch starts the watch of slices, once, and waits until all existing ones are known.
func (w *sliceWriter) watch(ctx context.Context) error {
	w.start.Do(func() {
		w.watched = w.factory.Discovery().V1().EndpointSlices().Informer()
		// AddIndexers fails only for an informer that was started.
		_ = w.watched.AddIndexers(cache.Indexers{byService: func(o any) ([]string, error) {
			return []string{serviceOf(o.(*discoveryv1.EndpointSlice)).String()}, nil
		}})
		sources.OnDiff(w.watched, w.onSliceChange)
		w.factory.Start(ctx.Done())
	})
	if w.watched.HasSynced() {
		return nil
	}
	if !cache.WaitForCacheSync(ctx.Done(), w.watched.HasSynced) {
		return fmt.Errorf("read the endpoint slices: %w", context.Cause(ctx))
	}
	return nil
}

func withoutManagedFields(o any) (any, error) {
	if s, ok := o.(*discoveryv1.EndpointSlice); ok {
		s.ManagedFields = nil
	}
	return o, nil
}

// wait waits until the watch has ended. The context of the calls must end first.
func (w *sliceWriter) wait() { w.factory.Shutdown() }

func serviceOf(s *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

// onSliceChange queues the Service of a slice that someone else changed.
func (w *sliceWriter) onSliceChange(old, now *discoveryv1.EndpointSlice) {
	switch {
	case now == nil:
		if old != nil && w.tracker.Has(old) && !w.tracker.HandleDeletion(old) {
			w.queue(serviceOf(old))
		}
	case old != nil && serviceOf(old) != serviceOf(now):
		w.queue(serviceOf(old))
		w.queue(serviceOf(now))
	case w.tracker.ShouldSync(now):
		w.queue(serviceOf(now))
	}
}

// setNodes tells the hints of the annotation topology-mode which nodes there are.
func (w *sliceWriter) setNodes(all []*corev1.Node) {
	w.topology.SetNodes(klog.Logger{}, all) // without the lines that it logs for nodes without a zone
	for _, key := range w.topology.GetOverloadedServices() {
		if namespace, name, err := cache.SplitMetaNamespaceKey(key); err == nil {
			w.queue(types.NamespacedName{Namespace: namespace, Name: name})
		}
	}
}

// sameTopology reports whether two states of a node are equal to the hints.
func sameTopology(a, b *corev1.Node) bool {
	ready := func(n *corev1.Node) bool {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	}
	return ready(a) == ready(b) && a.Labels[corev1.LabelTopologyZone] == b.Labels[corev1.LabelTopologyZone]
}

// forget drops what is known of a deleted Service.
func (w *sliceWriter) forget(name types.NamespacedName) {
	w.reconciler.DeleteService(name.Namespace, name.Name)
	w.tracker.DeleteService(name.Namespace, name.Name)
}

// existing returns the watched slices of the Service.
func (w *sliceWriter) existing(service *corev1.Service) []*discoveryv1.EndpointSlice {
	all, _ := w.watched.GetIndexer().ByIndex(byService, sources.NameOf(service).String()) // fails only for an index that does not exist
	var out []*discoveryv1.EndpointSlice
	for _, o := range all {
		if s := o.(*discoveryv1.EndpointSlice); s.DeletionTimestamp == nil {
			out = append(out, s)
		}
	}
	return out
}

// behind reports whether the watch has yet to bring what was written for the Service.
func (w *sliceWriter) behind(ctx context.Context, service *corev1.Service) (bool, error) {
	if err := w.watch(ctx); err != nil {
		return false, err
	}
	return w.tracker.StaleSlices(service, w.existing(service)), nil
}

// write makes the slices match the Pods. trigger is the time of the change that led to it, or zero.
func (w *sliceWriter) write(ctx context.Context, service *corev1.Service, pods []*corev1.Pod, trigger time.Time) error {
	err := w.reconciler.Reconcile(klog.FromContext(ctx), service, pods, w.existing(service), trigger)
	if err == nil {
		return nil
	}
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) && !apierrors.IsConflict(err) {
		w.events.Eventf(service, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
			"Error updating Endpoint Slices for Service %s/%s: %v", service.Namespace, service.Name, err)
	}
	return fmt.Errorf("write the endpoint slices of service %s/%s: %w", service.Namespace, service.Name, err)
}
