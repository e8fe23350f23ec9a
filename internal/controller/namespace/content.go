package namespace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// finalizerEstimate is the time that the owner of a finalizer is assumed to need.
const finalizerEstimate = 15 * time.Second

// atOnce bounds the resources that are deleted concurrently in one namespace.
const atOnce = 8

var podsGVR = corev1.SchemeGroupVersion.WithResource("pods")

// remains is what one round of deletion left behind.
type remains struct {
	discoveryErr error
	parseErr     error
	contentErrs  []error
	objects      map[schema.GroupVersionResource]int
	finalizers   map[string]int
	estimate     time.Duration
	waitsForPods bool
}

// err returns all errors joined, or nil.
func (r *remains) err() error {
	return errors.Join(append([]error{r.discoveryErr, r.parseErr}, r.contentErrs...)...)
}

// add records what is left of one resource.
func (r *remains) add(gvr schema.GroupVersionResource, one oneRemains) {
	if one.err != nil {
		r.contentErrs = append(r.contentErrs, one.err)
	}
	r.estimate = max(r.estimate, one.estimate)
	if one.objects > 0 {
		r.objects[gvr] = one.objects
	}
	for f, n := range one.finalizers {
		r.finalizers[f] += n
	}
}

// oneRemains is what is left of one resource.
type oneRemains struct {
	objects    int
	finalizers map[string]int
	estimate   time.Duration
	err        error
}

// deleteContent deletes everything in the namespace: first the Pods, and once none is left the rest.
func (k *Controller) deleteContent(ctx context.Context, ns *corev1.Namespace) *remains {
	r := &remains{objects: map[schema.GroupVersionResource]int{}, finalizers: map[string]int{}}
	lists, err := k.discovery.ServerPreferredResources()
	r.discoveryErr = err // what was found is deleted anyway
	lists = discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"delete"}}, namespaced(lists))
	resources, err := discovery.GroupVersionResources(lists)
	r.parseErr = err
	verbs := verbsOf(lists)
	if _, ok := resources[podsGVR]; ok {
		r.add(podsGVR, k.deleteResource(ctx, ns, podsGVR, verbs[podsGVR]))
		delete(resources, podsGVR)
		if r.objects[podsGVR] > 0 {
			r.waitsForPods = true
			return r
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for gvr := range resources {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			one := k.deleteResource(ctx, ns, gvr, verbs[gvr])
			mu.Lock()
			defer mu.Unlock()
			r.add(gvr, one)
		})
	}
	wg.Wait()
	return r
}

// namespaced returns the namespaced resources.
func namespaced(lists []*metav1.APIResourceList) []*metav1.APIResourceList {
	return discovery.FilteredBy(discovery.ResourcePredicateFunc(func(_ string, r *metav1.APIResource) bool {
		return r.Namespaced
	}), lists)
}

func verbsOf(lists []*metav1.APIResourceList) map[schema.GroupVersionResource]metav1.Verbs {
	out := map[schema.GroupVersionResource]metav1.Verbs{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue // reported by discovery.GroupVersionResources
		}
		for _, r := range list.APIResources {
			out[gv.WithResource(r.Name)] = r.Verbs
		}
	}
	return out
}

// deleteResource deletes all objects of a resource in the namespace and returns what remains. Most resources
// have no objects, so it lists before it deletes.
func (k *Controller) deleteResource(ctx context.Context, ns *corev1.Namespace, gvr schema.GroupVersionResource, verbs metav1.Verbs) oneRemains {
	objects := k.metadata.Resource(gvr).Namespace(ns.Name)
	if !slices.Contains(verbs, "list") {
		if err := objects.DeleteCollection(ctx, deleteNow(""), metav1.ListOptions{}); err != nil && !notServed(err) {
			return oneRemains{err: err}
		}
		return oneRemains{}
	}
	list, err := objects.List(ctx, metav1.ListOptions{})
	switch {
	case notServed(err):
		return oneRemains{}
	case err != nil:
		return oneRemains{err: err}
	case len(list.Items) == 0:
		return oneRemains{}
	}
	if slices.Contains(verbs, "deletecollection") {
		err = objects.DeleteCollection(ctx, deleteNow(""), metav1.ListOptions{})
	} else {
		err = deleteEach(ctx, objects, list.Items)
	}
	if err != nil && !notServed(err) {
		return oneRemains{err: err}
	}
	if list, err = objects.List(ctx, metav1.ListOptions{}); err != nil {
		return oneRemains{err: err}
	}
	return k.account(ns, gvr, list.Items)
}

func deleteEach(ctx context.Context, objects metadata.ResourceInterface, items []metav1.PartialObjectMetadata) error {
	for _, item := range items {
		err := objects.Delete(ctx, item.Name, deleteNow(item.UID))
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}

// account estimates how long the remaining objects need. Objects without finalizers that are not terminating
// gracefully should not remain: they are an error, which is retried.
func (k *Controller) account(ns *corev1.Namespace, gvr schema.GroupVersionResource, left []metav1.PartialObjectMetadata) oneRemains {
	if len(left) == 0 {
		return oneRemains{}
	}
	out := oneRemains{objects: len(left), finalizers: map[string]int{}}
	for i := range left {
		for _, f := range left[i].Finalizers {
			out.finalizers[f]++
		}
		if d := left[i].DeletionTimestamp; d != nil && gvr == podsGVR {
			out.estimate = max(out.estimate, d.Sub(k.clock.Now()))
		}
	}
	if gvr == podsGVR && out.estimate <= 0 && slices.ContainsFunc(left, terminating) {
		out.estimate = time.Second // past its grace period; its node is about to report the end
	}
	if out.estimate <= 0 && len(out.finalizers) > 0 {
		out.estimate = finalizerEstimate
	}
	if out.estimate <= 0 {
		out.err = fmt.Errorf("unexpected items still remain in namespace: %s for gvr: %v", ns.Name, gvr)
	}
	return out
}

func terminating(o metav1.PartialObjectMetadata) bool { return o.DeletionTimestamp != nil }

// notServed reports whether the server does not have the verb or the resource after all.
func notServed(err error) bool {
	return apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err)
}

// sortedKeys formats a map for messages that must not change from round to round.
func sortedKeys[M ~map[K]V, K comparable, V any](m M, text func(K, V) string) []string {
	out := make([]string, 0, len(m))
	for key := range maps.Keys(m) {
		out = append(out, text(key, m[key]))
	}
	slices.Sort(out)
	return out
}
