package node

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/node/worker"
)

// podSource tells of the Pods that the API server has bound to this node.
type podSource struct {
	client kubernetes.Interface
	node   string
	// update is called for a Pod that is new or changed, remove for one whose object is gone.
	update, remove func(*corev1.Pod)
	// all is called once, when it is known which Pods were there at the start.
	all func([]*corev1.Pod)
}

// podsOfAPI is the source of the Pods that are bound to this node, mirrors of static Pods among them.
func (n *Node) podsOfAPI(ctx context.Context) *podSource {
	return &podSource{
		client: n.c.Client, node: n.c.Name,
		update: func(p *corev1.Pod) {
			n.mirrors.Observe(p)
			n.catchUp(ctx, p)
			n.workers.UpdatePod(worker.SourceAPI, p)
		},
		remove: func(p *corev1.Pod) {
			n.mirrors.Gone(p)
			n.workers.DeletePod(worker.SourceAPI, p)
		},
		all: func(p []*corev1.Pod) {
			if err := n.cgroups.Restore(p); err != nil {
				klog.Background().Error(err, "Failed to weigh the earlier Pods")
			}
			n.workers.SetPods(worker.SourceAPI, p)
		},
	}
}

// run follows the API server until the context ends.
func (p *podSource) run(ctx context.Context) error {
	selector := fields.OneTermEqualSelector("spec.nodeName", p.node).String()
	pods := p.client.CoreV1().Pods(metav1.NamespaceAll)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return pods.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return pods.Watch(ctx, o)
		},
	}
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(lw, p.client),
		ObjectType:    &corev1.Pod{},
		Transform:     withoutManagedFields,
		ResyncPeriod:  0,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { p.update(o.(*corev1.Pod)) },
			UpdateFunc: func(_, o any) { p.update(o.(*corev1.Pod)) },
			DeleteFunc: func(o any) {
				if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = gone.Obj
				}
				if pod, ok := o.(*corev1.Pod); ok {
					p.remove(pod)
				}
			},
		},
	})
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			p.all(podsOf(store))
		}
	}()
	informer.RunWithContext(ctx)
	if ctx.Err() == nil {
		return fmt.Errorf("the watch of the Pods of node %s ended by itself at %s", p.node, time.Now().Format(time.RFC3339))
	}
	return nil
}

func podsOf(store cache.Store) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, o := range store.List() {
		pods = append(pods, o.(*corev1.Pod))
	}
	return pods
}

// withoutManagedFields spares the memory of what the node never reads.
func withoutManagedFields(o any) (any, error) {
	if pod, ok := o.(*corev1.Pod); ok {
		pod.ManagedFields = nil
	}
	return o, nil
}
