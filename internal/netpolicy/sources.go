package netpolicy

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// inbox holds what the sources brought until it is acted on.
type inbox struct {
	wake chan struct{}

	mu         sync.Mutex
	pods       map[types.UID]*corev1.Pod // nil for one that is gone
	namespaces bool
}

func newInbox() inbox {
	return inbox{wake: make(chan struct{}, 1), pods: map[types.UID]*corev1.Pod{}}
}

func (i *inbox) wakeUp() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

func (i *inbox) pod(uid types.UID, pod *corev1.Pod) {
	i.mu.Lock()
	i.pods[uid] = pod
	i.mu.Unlock()
	i.wakeUp()
}

func (i *inbox) namespace() {
	i.mu.Lock()
	i.namespaces = true
	i.mu.Unlock()
	i.wakeUp()
}

// take empties the inbox.
func (i *inbox) take() (pods map[types.UID]*corev1.Pod, namespaces bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	pods, namespaces = i.pods, i.namespaces
	i.pods, i.namespaces = map[types.UID]*corev1.Pod{}, false
	return pods, namespaces
}

// policySource follows the policies of the cluster.
type policySource struct {
	client   kubernetes.Interface
	factory  informers.SharedInformerFactory
	informer cache.SharedIndexInformer
}

func newPolicySource(client kubernetes.Interface, changed func()) *policySource {
	f := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim))
	s := &policySource{client: client, factory: f, informer: f.Networking().V1().NetworkPolicies().Informer()}
	// Neither fails for an informer that was not started.
	_, _ = s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
	})
	return s
}

// start follows the policies until ctx ends. What it returns waits for that to be over.
func (s *policySource) start(ctx context.Context) (stopped func()) {
	s.factory.Start(ctx.Done())
	return s.factory.Shutdown
}

func (s *policySource) synced() bool { return s.informer.HasSynced() }

// list returns the policies as last seen.
func (s *policySource) list() []*networkingv1.NetworkPolicy {
	var out []*networkingv1.NetworkPolicy
	for _, o := range s.informer.GetStore().List() {
		out = append(out, o.(*networkingv1.NetworkPolicy))
	}
	return out
}

// caughtUp returns when list has the policies of the namespace as the API server has them now. await is called with what is to
// be true.
func (s *policySource) caughtUp(ctx context.Context, namespace string, await func(context.Context, func() bool) error) error {
	now, err := s.client.NetworkingV1().NetworkPolicies(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	return await(ctx, func() bool { return s.synced() && !behind(namespace, s.list(), now) })
}

// behind reports whether the API server's answer has something of a namespace that was not seen yet.
func behind(namespace string, seen []*networkingv1.NetworkPolicy, now *networkingv1.NetworkPolicyList) bool {
	have := map[string]*networkingv1.NetworkPolicy{}
	for _, p := range seen {
		if p.Namespace == namespace {
			have[p.Name] = p
		}
	}
	for i := range now.Items {
		p := have[now.Items[i].Name]
		if p == nil || older(p.ResourceVersion, now.Items[i].ResourceVersion) {
			return true
		}
		delete(have, p.Name)
	}
	for _, p := range have {
		if older(p.ResourceVersion, now.ResourceVersion) {
			return true // deleted since
		}
	}
	return false
}

// older compares resource versions, which are numbers (KEP-5504). One that is none is not older than anything.
func older(a, b string) bool {
	x, errX := strconv.ParseUint(a, 10, 64)
	y, errY := strconv.ParseUint(b, 10, 64)
	return errX == nil && errY == nil && x < y
}

// objectSource follows Pods and Namespaces.
type objectSource struct {
	inbox *inbox
	all   informers.SharedInformerFactory
	pods  cache.SharedIndexInformer
	ns    cache.SharedIndexInformer
	stop  func()
}

func newObjectSource(client kubernetes.Interface, in *inbox) *objectSource {
	f := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim))
	s := &objectSource{inbox: in, all: f, pods: f.Core().V1().Pods().Informer(), ns: f.Core().V1().Namespaces().Informer()}
	in.take() // of an earlier source
	pod := func(o any, gone bool) {
		p, ok := o.(*corev1.Pod)
		switch {
		case !ok:
		case gone:
			in.pod(sandboxUID(p), nil)
		default:
			in.pod(sandboxUID(p), p)
		}
	}
	_, _ = s.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { pod(o, false) },
		UpdateFunc: func(old, now any) {
			if a, b := old.(*corev1.Pod), now.(*corev1.Pod); sandboxUID(a) != sandboxUID(b) {
				pod(old, true)
			}
			pod(now, false)
		},
		DeleteFunc: func(o any) {
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			pod(o, true)
		},
	})
	_, _ = s.ns.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { in.namespace() }, UpdateFunc: func(any, any) { in.namespace() }, DeleteFunc: func(any) { in.namespace() },
	})
	return s
}

// start follows the objects until stop is called or ctx ends, and wakes the inbox when all are seen.
func (s *objectSource) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	s.all.Start(ctx.Done())
	go func() {
		cache.WaitForCacheSync(ctx.Done(), s.synced)
		s.inbox.wakeUp()
	}()
	s.stop = func() {
		cancel()
		s.all.Shutdown()
	}
}

func (s *objectSource) synced() bool { return s.pods.HasSynced() && s.ns.HasSynced() }

// namespaces returns the labels of all namespaces.
func (s *objectSource) namespaces() map[string]labels.Set {
	out := map[string]labels.Set{}
	for _, o := range s.ns.GetStore().List() {
		n := o.(*corev1.Namespace)
		out[n.Name] = n.Labels
	}
	return out
}

// trim keeps of an object what policies look at.
func trim(o any) (any, error) {
	switch o := o.(type) {
	case *corev1.Pod:
		return strip(o), nil
	case *networkingv1.NetworkPolicy:
		o.ManagedFields, o.Annotations = nil, nil
		return o, nil
	case *corev1.Namespace:
		return &corev1.Namespace{ObjectMeta: identity(&o.ObjectMeta)}, nil
	}
	return nil, fmt.Errorf("%T is not followed", o)
}

func identity(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Labels: m.Labels}
}
