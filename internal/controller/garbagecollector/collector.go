// Package garbagecollector deletes objects whose owners are gone, and carries out the foreground and the
// orphaning deletion of owners.
//
// It watches the metadata of every kind that discovery names and keeps a small graph of who owns whom. The
// graph only says where to look: before an object is deleted, it and the owners it names are read from the
// server.
//
//	owner gone                        → a dependent with no other owner is deleted
//	owner deleted in the foreground   → dependents first; the owner when none is left that blocks it
//	owner deleted with orphaning      → its dependents lose the reference, then it goes
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

	"podium.dev/podium/internal/controller/loop"
)

// Component is the source of the events.
const Component = "garbage-collector-controller"

// absentOwners bounds the owners that are remembered as not there.
const absentOwners = 500

// discovery rounds; two keys, since each may be due at a time of its own.
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

// New makes the collector. seen, which may be nil, is told of every object that is there, changed or gone, with
// its metadata.
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
	// A group that does not answer must not keep the others waiting: the first round's error is not final,
	// the loop below asks again.
	if err := c.discover(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "Collect garbage among what was found; the rest will be asked for again")
		c.discovering.AddAfter(settled, discoverAgain)
	}
	if !c.waitForSync(ctx) {
		return
	}
	// While the first lists came in, every dependent listed before its owner seemed to have lost it.
	c.objects.Forget()
	c.look(c.graph.unsettled())
	done := make(chan struct{})
	go func() { c.discovering.Run(ctx); close(done) }()
	c.objects.Run(ctx)
	<-done
}

// String names an object in logs and errors.
func (n *node) String() string {
	if n.namespace == "" {
		return fmt.Sprintf("%s %s", n.kind.gvr.GroupResource(), n.name)
	}
	return fmt.Sprintf("%s %s/%s", n.kind.gvr.GroupResource(), n.namespace, n.name)
}
