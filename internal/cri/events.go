package cri

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxWaiting is how many events wait for a client of the socket before it is let go: it reads no more, and each event
// has the status of a whole Pod. A kubelet that comes again lists all. It is some events for each of the containers
// that a node has.
const maxWaiting = 4096

// errSlowListener is what a listener gets that has not taken its events.
var errSlowListener = status.Errorf(codes.ResourceExhausted, "%d events wait for the client, which does not read them", maxWaiting)

// broadcast hands every event to all listeners, in one order. A slow one delays nobody: what it has not taken yet waits
// for it, up to its limit.
type broadcast struct {
	mu        sync.Mutex
	listeners map[*listener]bool
	closed    bool
}

// listener is one who listens.
type listener struct {
	mu     sync.Mutex
	queue  []*runtimeapi.ContainerEventResponse
	limit  int // of the queue; 0 for none
	slow   bool
	wake   chan struct{} // has one element when there is something to do
	closed bool
}

func newBroadcast() *broadcast { return &broadcast{listeners: map[*listener]bool{}} }

func (b *broadcast) send(e *runtimeapi.ContainerEventResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.listeners {
		l.push(e, false)
	}
}

func (l *listener) push(e *runtimeapi.ContainerEventResponse, end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit > 0 && len(l.queue) >= l.limit {
		l.queue, l.slow = nil, true
	}
	if e != nil && !l.slow {
		l.queue = append(l.queue, e)
	}
	l.closed = l.closed || end
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// idle reports whether nobody listens.
func (b *broadcast) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.listeners) == 0
}

func (b *broadcast) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for l := range b.listeners {
		l.push(nil, true)
	}
}

// listen calls ready once all events from now on will be heard, then deliver with each, until ctx ends, the runtime is
// closed, deliver fails, or more than limit events wait (0 for no limit).
func (b *broadcast) listen(ctx context.Context, limit int, ready func(), deliver func(*runtimeapi.ContainerEventResponse) error) error {
	l := &listener{wake: make(chan struct{}, 1), limit: limit}
	b.mu.Lock()
	l.closed = b.closed
	b.listeners[l] = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.listeners, l)
		b.mu.Unlock()
	}()
	ready()
	for {
		l.mu.Lock()
		queue, closed, slow := l.queue, l.closed, l.slow
		l.queue = nil
		l.mu.Unlock()
		for _, e := range queue {
			if err := deliver(e); err != nil {
				return err
			}
		}
		if slow {
			return errSlowListener
		}
		if closed {
			return nil
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// GetContainerEvents streams what happens to sandboxes and containers from now on.
func (r *Runtime) GetContainerEvents(_ *runtimeapi.GetEventsRequest, s grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	return r.events.listen(s.Context(), maxWaiting, func() {}, s.Send)
}

// emit tells what happened to a container or, with the sandbox's ID, to the sandbox, with the status of all.
func (r *Runtime) emit(id string, sb *sandbox, kind runtimeapi.ContainerEventType) {
	if r.events.idle() {
		return
	}
	e := &runtimeapi.ContainerEventResponse{
		ContainerId: id, ContainerEventType: kind, CreatedAt: r.clock.Now().UnixNano(), PodSandboxStatus: r.sandboxStatus(sb),
	}
	for _, c := range r.store.containersOf(sb.ID) {
		e.ContainersStatuses = append(e.ContainersStatuses, r.containerStatus(c))
	}
	r.events.send(e)
}
