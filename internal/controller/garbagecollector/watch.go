package garbagecollector

import (
	"context"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

// Discovery runs soon after a change of an object that announces served kinds, and again when the server must
// have processed that change.
const (
	discoverSoon  = 300 * time.Millisecond
	discoverAgain = 5 * time.Second
)

// announcers are the groups whose objects add and remove kinds.
var announcers = []string{"apiextensions.k8s.io", "apiregistration.k8s.io"}

// watches are the running metadata watches.
type watches struct {
	mu      sync.Mutex
	running map[*kind]*monitor
	done    sync.WaitGroup
}

// monitor feeds the metadata of one kind directly into the graph, without a second store.
type monitor struct {
	c      *Collector
	kind   *kind
	stop   context.CancelFunc
	synced chan struct{}
	once   sync.Once
}

var _ cache.ReflectorStore = &monitor{}

// watch starts a monitor for each new kind and stops those of kinds that are no longer served. keep prevents
// the latter, for a discovery that was incomplete.
func (c *Collector) watch(ctx context.Context, want []*kind, keep bool) {
	c.watches.mu.Lock()
	defer c.watches.mu.Unlock()
	for _, k := range want {
		if c.watches.running[k] != nil {
			continue
		}
		m := &monitor{c: c, kind: k, synced: make(chan struct{})}
		own, stop := context.WithCancel(ctx)
		m.stop = stop
		c.watches.running[k] = m
		reflector := cache.NewReflectorWithOptions(listWatch(c.metadata, k), &metav1.PartialObjectMetadata{}, m,
			cache.ReflectorOptions{Name: "garbagecollector/" + k.gvr.String()})
		c.watches.done.Go(func() { reflector.RunWithContext(own) })
	}
	if keep {
		return
	}
	for k, m := range c.watches.running {
		if !slices.Contains(want, k) {
			m.stop()
			delete(c.watches.running, k)
			c.look(c.graph.replace(k, nil))
		}
	}
}

// waitForSync waits until every monitor has seen its first list. It returns false if ctx ends first.
func (c *Collector) waitForSync(ctx context.Context) bool {
	c.watches.mu.Lock()
	all := make([]*monitor, 0, len(c.watches.running))
	for _, m := range c.watches.running {
		all = append(all, m)
	}
	c.watches.mu.Unlock()
	for _, m := range all {
		select {
		case <-m.synced:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func listWatch(client metadata.Interface, k *kind) cache.ListerWatcher {
	r := client.Resource(k.gvr)
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return r.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return r.Watch(ctx, o)
		},
	}, client)
}

// Add implements cache.ReflectorStore.
func (m *monitor) Add(obj any) error {
	if o, ok := obj.(metav1.Object); ok {
		m.c.look(m.c.graph.set(newNode(m.kind, o)))
		m.c.seen(m.kind.gvr.GroupResource(), o, false)
		m.announce()
	}
	return nil
}

// Update implements cache.ReflectorStore.
func (m *monitor) Update(obj any) error { return m.Add(obj) }

// Delete implements cache.ReflectorStore.
func (m *monitor) Delete(obj any) error {
	if o, ok := obj.(metav1.Object); ok {
		m.c.look(m.c.graph.remove(o.GetUID()))
		m.c.seen(m.kind.gvr.GroupResource(), o, true)
		m.announce()
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (m *monitor) Replace(list []any, _ string) error {
	nodes := make([]*node, 0, len(list))
	for _, obj := range list {
		if o, ok := obj.(metav1.Object); ok {
			nodes = append(nodes, newNode(m.kind, o))
		}
	}
	m.c.look(m.c.graph.replace(m.kind, nodes))
	for _, obj := range list {
		if o, ok := obj.(metav1.Object); ok {
			m.c.seen(m.kind.gvr.GroupResource(), o, false)
		}
	}
	m.once.Do(func() { close(m.synced) })
	return nil
}

// Resync implements cache.ReflectorStore. The graph needs none.
func (m *monitor) Resync() error { return nil }

// announce schedules discovery if an object of this kind may have changed what the server serves.
func (m *monitor) announce() {
	if slices.Contains(announcers, m.kind.gvr.Group) {
		m.c.discovering.AddAfter(soon, discoverSoon)
		m.c.discovering.AddAfter(settled, discoverAgain)
	}
}

// look queues objects.
func (c *Collector) look(uids []types.UID) {
	for _, uid := range uids {
		c.objects.Add(uid)
	}
}
