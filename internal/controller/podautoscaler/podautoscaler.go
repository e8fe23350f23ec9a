// Package podautoscaler scales workloads by metrics, as HorizontalPodAutoscalers ask for: through the scale subresource
// of any kind that has one, by the built-in metrics of cpu and memory and by those of aggregated APIs. calculate.go,
// pods.go, propose.go, limit.go and decide.go decide and are pure; the other files read and write.
package podautoscaler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Component is the source of the controller's events.
const Component = "horizontal-pod-autoscaler"

const (
	// period is the time between two decisions about an autoscaler.
	period = 15 * time.Second
	// workers is the number of autoscalers that are decided about at a time.
	workers = 5
	// writeTries is how often a write is tried that someone else's write interferes with.
	writeTries = 5
)

// Controller decides about every autoscaler when it is new or changed, and periodically.
type Controller struct {
	client   kubernetes.Interface
	recorder record.EventRecorder
	all      autoscalinglisters.HorizontalPodAutoscalerLister
	pods     corelisters.PodLister
	synced   []cache.InformerSynced
	clock    clock.Clock
	loop     *loop.Loop[types.NamespacedName]
	scales   scales
	metrics  metrics

	mu    sync.Mutex
	known map[types.NamespacedName]*autoscaler
}

// autoscaler is what is remembered of an autoscaler.
type autoscaler struct {
	memory   memory          // used by sync only, which does not run twice for one autoscaler
	selector labels.Selector // of the Pods of its target; nil until they are known
}

// New returns the controller. It reads from the sources, which are started later, and through the clients.
func New(client kubernetes.Interface, clients *Clients, src *sources.Sources, recorder record.EventRecorder, c clock.Clock) *Controller {
	k := newController(client, src, recorder, c)
	k.scales, k.metrics = newAnyScale(clients, c), newAPIMetrics(clients, c)
	return k
}

func newController(client kubernetes.Interface, src *sources.Sources, recorder record.EventRecorder, c clock.Clock) *Controller {
	all, pods := src.All().Autoscaling().V2().HorizontalPodAutoscalers(), src.Pods()
	k := &Controller{
		client: client, recorder: recorder, clock: c, all: all.Lister(), pods: pods.Lister(),
		synced: []cache.InformerSynced{all.Informer().HasSynced, pods.Informer().HasSynced},
		known:  map[types.NamespacedName]*autoscaler{},
	}
	k.loop = loop.New("podautoscaler", c, workers, k.sync)
	sources.OnDiff(all.Informer(), func(old, now *autoscalingv2.HorizontalPodAutoscaler) {
		switch {
		case now == nil:
			k.loop.Add(sources.NameOf(old))
		case old == nil || old.UID != now.UID || old.Generation != now.Generation:
			k.loop.Add(sources.NameOf(now))
		}
	})
	return k
}

// Run works until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

// untilNext returns the time until the next decision. All autoscalers are due at the same times, so that one look at
// the metrics of a node serves all of them.
func untilNext(now time.Time) time.Duration {
	return period - time.Duration(now.UnixNano()%int64(period))
}

// sync makes and carries out one decision. What stands in the way is told by the autoscaler's conditions and events
// and is looked at again at the next time, so it is no error of the loop.
func (k *Controller) sync(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	a, err := k.all.HorizontalPodAutoscalers(name.Namespace).Get(name.Name)
	if err != nil { // gone
		k.mu.Lock()
		delete(k.known, name)
		k.mu.Unlock()
		return 0, nil
	}
	r := newRound(a, k.memory(name), k.clock.Now())
	err = k.decide(ctx, r)
	if err == nil {
		err = k.writeStatus(ctx, a, r.a)
	}
	for _, e := range r.events {
		k.recorder.Event(a, e.kind, e.reason, e.message)
	}
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
		k.recorder.Event(a, corev1.EventTypeWarning, "FailedUpdateStatus", err.Error())
		klog.FromContext(ctx).Error(err, "Failed to write the status of an autoscaler", "autoscaler", name)
	}
	return untilNext(k.clock.Now()), nil
}

func (k *Controller) memory(name types.NamespacedName) *memory {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known[name] == nil {
		k.known[name] = &autoscaler{}
	}
	return &k.known[name].memory
}

// decide takes one decision from the scale of the target to its change. It returns an error only of a write of the
// status.
func (k *Controller) decide(ctx context.Context, r *round) error {
	scale, err := k.scales.get(ctx, r.a.Namespace, r.a.Spec.ScaleTargetRef)
	if err != nil {
		r.noScale(err)
		return nil
	}
	if r.begin(scale.object) {
		pods, ok := k.podsOf(r, scale.object.Status.Selector)
		if !ok {
			return nil
		}
		t := target{
			wanted: r.current, existing: scale.object.Status.Replicas, pods: pods.pods,
			now: r.now, tolerances: r.tolerances(),
		}
		if !r.decide(t, k.read(ctx, r.a, pods.selector)) {
			return nil
		}
	}
	if r.desired == r.current {
		r.seen(r.desired)
		return nil
	}
	if r.toZero() {
		early := r.a.DeepCopy()
		r.noteZero()
		if err := k.writeStatus(ctx, early, r.a); err != nil {
			return err
		}
	}
	if err := k.scales.set(ctx, scale, r.desired); err != nil {
		r.notScaled(err)
		return nil
	}
	r.scaled()
	return nil
}

// selected are the Pods of a target.
type selected struct {
	selector labels.Selector
	pods     []*corev1.Pod
}

// podsOf returns the target's Pods. It returns false, and notes why, if they cannot be told or if another autoscaler
// scales some of them too.
func (k *Controller) podsOf(r *round, selector string) (selected, bool) {
	if selector == "" {
		r.badSelector("InvalidSelector", "SelectorRequired", "selector is required", "the HPA target's scale is missing a selector")
		return selected{}, false
	}
	parsed, err := labels.Parse(selector)
	if err != nil {
		message := fmt.Sprintf("couldn't convert selector into a corresponding internal selector object: %v", err)
		r.badSelector("InvalidSelector", "InvalidSelector", message, message)
		return selected{}, false
	}
	pods, err := k.pods.Pods(r.a.Namespace).List(parsed)
	if err != nil {
		r.cannotCompute(err.Error())
		return selected{}, false
	}
	// In an order, so that a message about one of several Pods stays the same.
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	if names := k.claim(sources.NameOf(r.a), parsed, pods); len(names) > 1 {
		message := fmt.Sprintf("pods by selector %v are controlled by more than one HPA (e.g. %v)", selector, names)
		r.badSelector("AmbiguousSelector", "AmbiguousSelector", message, message)
		return selected{}, false
	}
	return selected{parsed, pods}, true
}

// claimant is an autoscaler in the form that the message about several of them has.
type claimant struct{ Name, Namespace string }

// claim records the selector of an autoscaler's Pods and returns up to two autoscalers that select some of them.
func (k *Controller) claim(name types.NamespacedName, selector labels.Selector, pods []*corev1.Pod) []claimant {
	k.mu.Lock()
	defer k.mu.Unlock()
	if one := k.known[name]; one != nil {
		one.selector = selector
	}
	distinct := map[string]labels.Set{} // the Pods of a target have few different sets of labels
	for _, pod := range pods {
		distinct[labels.Set(pod.Labels).String()] = pod.Labels
	}
	var found []claimant
	for other, one := range k.known {
		if other.Namespace != name.Namespace || one.selector == nil {
			continue
		}
		for _, set := range distinct {
			if one.selector.Matches(set) {
				found = append(found, claimant{other.Name, other.Namespace})
				break
			}
		}
	}
	slices.SortFunc(found, func(a, b claimant) int { return strings.Compare(a.Name, b.Name) })
	return found[:min(len(found), 2)]
}

// read reads the metrics of an autoscaler, in their order.
func (k *Controller) read(ctx context.Context, a *autoscalingv2.HorizontalPodAutoscaler, selector labels.Selector) []reading {
	out := make([]reading, len(a.Spec.Metrics))
	for i := range a.Spec.Metrics {
		out[i] = read(ctx, k.metrics, a.Namespace, &a.Spec.Metrics[i], selector)
	}
	return out
}

// writeStatus writes the status of now unless it is that of old. The status is the controller's alone, so a write that
// someone else's interferes with is repeated on the newer object.
func (k *Controller) writeStatus(ctx context.Context, old, now *autoscalingv2.HorizontalPodAutoscaler) error {
	if equality.Semantic.DeepEqual(&old.Status, &now.Status) {
		return nil
	}
	client := k.client.AutoscalingV2().HorizontalPodAutoscalers(now.Namespace)
	out := now
	for try := 1; ; try++ {
		written, err := client.UpdateStatus(ctx, out, metav1.UpdateOptions{})
		if err == nil {
			now.ResourceVersion = written.ResourceVersion
			return nil
		}
		if !apierrors.IsConflict(err) || try == writeTries {
			return fmt.Errorf("failed to update status for %s: %w", now.Name, err)
		}
		newer, err := client.Get(ctx, now.Name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("failed to update status for %s: %w", now.Name, err)
		}
		if newer.UID != now.UID {
			return nil // another one of the same name, which is decided about next
		}
		newer.Status = now.Status
		out = newer
	}
}
