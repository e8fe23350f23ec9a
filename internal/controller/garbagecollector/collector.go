// Package garbagecollector deletes objects whose owners no longer exist, and performs foreground and orphaning
// deletion of owners.
//
// It watches the metadata of every kind that discovery returns and keeps a small graph of owner references. The
// graph only tells where to look: before an object is deleted, it and its owners are read from the server.
//
//	owner does not exist              → a dependent with no other owner is deleted
//	owner deleted in the foreground   → dependents first; the owner once none is left that blocks it
//	owner deleted with orphaning      → its dependents lose the reference, then the owner is deleted
package garbagecollector

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"

	"podium.dev/podium/internal/util/loop"
)

// Component is the source of the collector's events.
const Component = "garbage-collector-controller"

// absentOwners bounds the cache of owners that do not exist.
const absentOwners = 500

// Keys of the discovery loop. There are two because each may be due at a time of its own.
const (
	soon    = "soon"
	settled = "settled"
)

// Collector is the garbage collector.
type Collector struct {
	metadata    metadata.Interface
	recorder    record.EventRecorder
	clock       clock.Clock
	graph       *graph
	kinds       kinds
	watches     watches
	absent      *lru.Cache
	objects     *loop.Loop[types.UID]
	discovering *loop.Loop[string]
	seen        func(resource schema.GroupResource, o metav1.Object, gone bool)
}

// New returns a collector. seen is called for every object that was found, changed or deleted, with its
// metadata. It may be nil.
func New(client kubernetes.Interface, meta metadata.Interface, recorder record.EventRecorder, c clock.Clock, seen func(resource schema.GroupResource, o metav1.Object, gone bool)) *Collector {
	if seen == nil {
		seen = func(schema.GroupResource, metav1.Object, bool) {}
	}
	k := &Collector{
		metadata: meta, recorder: recorder, clock: c,
		graph:   newGraph(),
		kinds:   kinds{discovery: client.Discovery()},
		watches: watches{running: map[*kind]*monitor{}},
		absent:  lru.New(absentOwners),
		seen:    seen,
	}
	k.objects = loop.New("garbage-collector", c, 10, k.sync)
	return k
}

// Run runs the collector until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	defer c.watches.done.Wait()
	c.discovering = loop.New("garbage-collector-discovery", c.clock, 1, func(loopCtx context.Context, _ string) (time.Duration, error) {
		return 0, c.discover(ctx)
	})
	// A group that does not respond must not hold up the others: an error of the first round is not final,
	// because the loop below tries again.
	if err := c.discover(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "Failed to discover all kinds, collecting garbage of those found; will retry")
		c.discovering.AddAfter(settled, discoverAgain)
	}
	if !c.waitForSync(ctx) {
		return
	}
	// While the first lists arrived, every dependent listed before its owner seemed to have lost it.
	c.objects.Forget()
	c.look(c.graph.unsettled())
	done := make(chan struct{})
	go func() { c.discovering.Run(ctx); close(done) }()
	c.objects.Run(ctx)
	<-done
}

// String returns the object's resource and name for logs and errors.
func (n *node) String() string {
	if n.namespace == "" {
		return fmt.Sprintf("%s %s", n.kind.gvr.GroupResource(), n.name)
	}
	return fmt.Sprintf("%s %s/%s", n.kind.gvr.GroupResource(), n.namespace, n.name)
}
