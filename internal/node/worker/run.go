package worker

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

const (
	// resyncEvery is how often the runtime is listed though no event told of a change: a safety net.
	resyncEvery = 5 * time.Minute
	// reconnectAfter is the wait before the runtime is asked again after it failed.
	reconnectAfter = time.Second
	// topicListing is the topic of a listing of the runtime.
	topicListing = "listing"
)

// Run works until ctx ends, and leaves the containers running.
func (m *Manager) Run(ctx context.Context) error {
	lost := make(chan struct{}, 1)
	var wait sync.WaitGroup
	defer wait.Wait()
	events := make(chan *runtimeapi.ContainerEventResponse, 64)
	wait.Go(func() { m.follow(ctx, events, lost) })
	// The events are read whatever else goes on: the runtime may wait for that.
	wait.Go(func() { m.listen(ctx, events) })
	wait.Go(func() { m.collect(ctx) })
	if !m.restore(ctx) {
		return ctx.Err()
	}
	resync := m.cfg.Clock.NewTicker(resyncEvery)
	defer resync.Stop()
	for {
		select {
		case <-lost:
			m.resync(ctx)
		case <-resync.C():
			m.resync(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listen takes in the events of the runtime until ctx ends.
func (m *Manager) listen(ctx context.Context, events <-chan *runtimeapi.ContainerEventResponse) {
	for {
		select {
		case e := <-events:
			m.heard(e)
		case <-ctx.Done():
			return
		}
	}
}

// follow follows the events of the runtime, and says on lost when some may have been missed.
func (m *Manager) follow(ctx context.Context, events chan *runtimeapi.ContainerEventResponse, lost chan<- struct{}) {
	missed := func() {
		select {
		case lost <- struct{}{}:
		default:
		}
	}
	for ctx.Err() == nil {
		err := m.cfg.Runtime.GetContainerEvents(ctx, events, func(runtimeapi.RuntimeService_GetContainerEventsClient) { missed() })
		if ctx.Err() != nil {
			return
		}
		klog.FromContext(ctx).Error(err, "The runtime's events ended; following them again")
		missed()
		m.pause(ctx, reconnectAfter)
	}
}

// pause waits for a while, or for ctx to end.
func (m *Manager) pause(ctx context.Context, d time.Duration) {
	timer := m.cfg.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-ctx.Done():
	}
}

// restore reads what the runtime has, as often as it takes, and then lets the inputs in that came meanwhile. It
// reports whether it came to that.
func (m *Manager) restore(ctx context.Context) bool {
	for {
		version, err := m.cfg.Runtime.Version(ctx, "v1")
		var all map[string]*found
		if err == nil {
			all, err = m.list(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return false
			}
			klog.FromContext(ctx).Error(err, "Cannot read what the runtime has; asking again")
			m.pause(ctx, reconnectAfter)
			continue
		}
		m.open(ctx, version.GetRuntimeName(), all)
		return true
	}
}

// open lets the inputs in.
func (m *Manager) open(ctx context.Context, runtime string, all map[string]*found) {
	m.report.start(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ctx, m.runtime = ctx, runtime
	grants, err := readGrants(m.cfg.Allocations)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot read what resized pods were allocated")
	}
	m.grants = grants
	m.found = map[types.UID]*found{}
	for uid, f := range all {
		m.found[types.UID(uid)] = f
	}
	queue := m.early
	m.early = nil
	for _, in := range queue {
		in.do()
	}
}

// heard takes in an event of the runtime: it says which container or sandbox is to be read again.
func (m *Manager) heard(e *runtimeapi.ContainerEventResponse) {
	box := e.GetPodSandboxStatus()
	uid := types.UID(box.GetMetadata().GetUid())
	id := e.GetContainerId()
	m.mu.Lock()
	w := m.workers[uid]
	m.mu.Unlock()
	if w == nil {
		m.suspect()
		return
	}
	w.postLatest(id, func() {
		if id == box.GetId() {
			w.refreshSandbox(id)
			return
		}
		w.refresh(id, box.GetId())
	})
}

// resync lists the runtime and has the workers compare.
func (m *Manager) resync(ctx context.Context) {
	all, err := m.list(ctx)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot list what the runtime has")
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid, w := range m.workers {
		f := all[string(uid)]
		w.postLatest(topicListing, func() { w.compare(f) })
	}
	m.resizesLocked()
	m.suspect()
}
