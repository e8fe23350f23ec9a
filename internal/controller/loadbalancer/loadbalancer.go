// Package loadbalancer gives Services of the type LoadBalancer the addresses of the nodes, so that they can be reached
// from outside with nothing installed. The nodes open the ports.
//
// It leaves Services with a loadBalancerClass alone: they are for another implementation.
package loadbalancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/util/loop"
)

// Component is the name of the controller in events, that of upstream's controller of cloud load balancers.
const Component = "service-controller"

// Finalizer keeps a Service until its load balancer is gone (k8s.io/cloud-provider/service/helpers).
const Finalizer = "service.kubernetes.io/load-balancer-cleanup"

// Controller writes the status of load balancers. Which Service gets a port depends on all others, so there is one
// key.
type Controller struct {
	client   kubernetes.Interface
	services corelisters.ServiceLister
	nodes    corelisters.NodeLister
	pods     corelisters.PodLister
	synced   []cache.InformerSynced
	loop     *loop.Loop[struct{}]
	events   record.EventRecorder

	// any is set while there is a Service of the type LoadBalancer, local while there is one that only nodes with its
	// Pods answer for.
	any, local atomic.Bool
	// said are the conflicts that were reported, by Service. Only sync uses it.
	said map[types.UID]string
}

// New returns a controller.
func New(client kubernetes.Interface, src *sources.Sources, events record.EventRecorder, c clock.Clock) *Controller {
	services, nodes, pods := src.All().Core().V1().Services(), src.Nodes(), src.Pods()
	k := &Controller{
		client: client, services: services.Lister(), nodes: nodes.Lister(), pods: pods.Lister(), events: events,
		synced: []cache.InformerSynced{services.Informer().HasSynced, nodes.Informer().HasSynced, pods.Informer().HasSynced},
		said:   map[types.UID]string{},
	}
	k.loop = loop.New("loadbalancer", c, 1, k.sync)
	sources.OnDiff(services.Informer(), k.onService)
	sources.OnDiff(nodes.Informer(), k.onNode)
	sources.OnDiff(pods.Informer(), k.onPod)
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) { k.loop.RunSynced(ctx, k.synced...) }

func (k *Controller) onService(old, now *corev1.Service) {
	for _, s := range []*corev1.Service{old, now} {
		switch {
		case s == nil:
		case s.Spec.Type == corev1.ServiceTypeLoadBalancer || slices.Contains(s.Finalizers, Finalizer):
			k.any.Store(true)
			k.loop.Add(struct{}{})
			return
		case s.Spec.Type == corev1.ServiceTypeNodePort && k.any.Load():
			k.loop.Add(struct{}{})
			return
		}
	}
}

func (k *Controller) onNode(old, now *corev1.Node) {
	if !k.any.Load() || old != nil && now != nil && sameNode(old, now) {
		return
	}
	k.loop.Add(struct{}{})
}

func sameNode(a, b *corev1.Node) bool {
	_, x := a.Labels[corev1.LabelNodeExcludeBalancers]
	_, y := b.Labels[corev1.LabelNodeExcludeBalancers]
	return x == y && isReady(a) == isReady(b) && (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		slices.Equal(a.Status.Addresses, b.Status.Addresses) && a.Status.DaemonEndpoints == b.Status.DaemonEndpoints
}

func (k *Controller) onPod(old, now *corev1.Pod) {
	if !k.any.Load() {
		return
	}
	p := now
	if p == nil {
		p = old
	}
	if k.local.Load() || hasHostPort(p) && (old == nil || now == nil || old.Spec.NodeName != now.Spec.NodeName || podutil.Ended(old) != podutil.Ended(now)) {
		k.loop.Add(struct{}{})
	}
}

func hasHostPort(p *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(p.Spec.InitContainers, p.Spec.Containers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.HostPort != 0 })
	})
}

// sync makes all Services what they are to be.
func (k *Controller) sync(ctx context.Context, _ struct{}) (time.Duration, error) {
	var w world
	// The informers' stores do not fail.
	w.services, _ = k.services.List(labels.Everything())
	w.nodes, _ = k.nodes.List(labels.Everything())
	k.any.Store(false)
	k.local.Store(false)
	var errs []error
	for _, s := range w.services {
		switch {
		case ours(s):
			k.any.Store(true)
			if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
				k.local.Store(true)
			}
		case slices.Contains(s.Finalizers, Finalizer) && s.Spec.LoadBalancerClass == nil:
			errs = append(errs, k.remove(ctx, s))
		}
	}
	if k.any.Load() {
		all, _ := k.pods.List(labels.Everything())
		for _, p := range all {
			if p.Spec.NodeName != "" && (k.local.Load() || hasHostPort(p)) {
				w.pods = append(w.pods, p)
			}
		}
	}
	said := map[types.UID]string{}
	for _, v := range decide(w) {
		said[v.service.UID] = strings.Join(v.conflicts, "; ")
		errs = append(errs, k.ensure(ctx, v))
	}
	k.said = said
	return 0, errors.Join(errs...)
}

// ensure writes the addresses of a Service, after the finalizer that keeps it until they are gone.
func (k *Controller) ensure(ctx context.Context, v verdict) error {
	s := v.service
	if said := strings.Join(v.conflicts, "; "); said != "" && said != k.said[s.UID] {
		k.events.Eventf(s, corev1.EventTypeWarning, "SyncLoadBalancerFailed", "Error syncing load balancer: failed to ensure load balancer: %s", said)
	}
	have := s.Status.LoadBalancer.Ingress
	if equality.Semantic.DeepEqual(have, v.ingress) && slices.Contains(s.Finalizers, Finalizer) {
		return nil
	}
	if len(have) == 0 && len(v.ingress) > 0 {
		k.events.Event(s, corev1.EventTypeNormal, "EnsuringLoadBalancer", "Ensuring load balancer")
	}
	if err := k.setFinalizer(ctx, s, true); err != nil {
		return err
	}
	if err := k.setIngress(ctx, s, v.ingress); err != nil {
		return err
	}
	switch {
	case len(v.ingress) == 0:
	case len(have) == 0:
		k.events.Event(s, corev1.EventTypeNormal, "EnsuredLoadBalancer", "Ensured load balancer")
	default:
		k.events.Event(s, corev1.EventTypeNormal, "UpdatedLoadBalancer", "Updated load balancer with new hosts")
	}
	return nil
}

// remove takes the addresses and the finalizer from a Service that is no load balancer anymore.
func (k *Controller) remove(ctx context.Context, s *corev1.Service) error {
	k.events.Event(s, corev1.EventTypeNormal, "DeletingLoadBalancer", "Deleting load balancer")
	if err := k.setIngress(ctx, s, nil); err != nil {
		return err
	}
	if err := k.setFinalizer(ctx, s, false); err != nil {
		return err
	}
	k.events.Event(s, corev1.EventTypeNormal, "DeletedLoadBalancer", "Deleted load balancer")
	return nil
}

func (k *Controller) setIngress(ctx context.Context, s *corev1.Service, ingress []corev1.LoadBalancerIngress) error {
	if equality.Semantic.DeepEqual(s.Status.LoadBalancer.Ingress, ingress) {
		return nil
	}
	return k.patch(ctx, s, map[string]any{
		"metadata": map[string]any{"uid": s.UID},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": ingress}},
	}, types.MergePatchType, "status")
}

func (k *Controller) setFinalizer(ctx context.Context, s *corev1.Service, want bool) error {
	if slices.Contains(s.Finalizers, Finalizer) == want {
		return nil
	}
	verb := "finalizers"
	if !want {
		verb = "$deleteFromPrimitiveList/finalizers"
	}
	return k.patch(ctx, s, map[string]any{"metadata": map[string]any{"uid": s.UID, verb: []string{Finalizer}}}, types.StrategicMergePatchType)
}

// patch changes a Service, which may be gone.
func (k *Controller) patch(ctx context.Context, s *corev1.Service, change map[string]any, kind types.PatchType, subresource ...string) error {
	body, err := json.Marshal(change)
	if err == nil {
		_, err = k.client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, kind, body, metav1.PatchOptions{}, subresource...)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the load balancer of service %s/%s: %w", s.Namespace, s.Name, err)
	}
	return nil
}
