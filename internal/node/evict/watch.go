package evict

import (
	"context"
	"errors"
	"os"
	"sync"

	"k8s.io/klog/v2"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/container"
)

// Watch has the kernel say when memory falls short between two looks. On cgroup v1 it tells when a cgroup's use
// crosses a threshold; on v2 it has no such thing, but tells when processes have to wait for memory.
type Watch struct {
	// C gets a word when it is time to look.
	C chan struct{}
	// machine is the cgroup of all processes, tree that which Pods' cgroups are below.
	machine, tree *cgroup.Manager

	mu      sync.Mutex
	notices map[Threshold]*notice
	pressed bool
}

// notice is what the kernel was asked for.
type notice struct {
	*cgroup.Notice
	bytes int64
}

// NewWatch watches nothing before Set.
func NewWatch(machine, tree *cgroup.Manager) *Watch {
	return &Watch{C: make(chan struct{}, 1), machine: machine, tree: tree, notices: map[Threshold]*notice{}}
}

// near is how far in bytes from where it should be a threshold may be that the kernel watches.
const near = 4 << 20

// Set has the thresholds watched that are about memory, as things are now; what was watched before and is no longer in
// its place is not. ctx ends all.
func (w *Watch) Set(ctx context.Context, thresholds []Threshold, seen Observations) {
	for _, t := range thresholds {
		group, at := w.machine, "/"
		switch t.Signal {
		case MemoryAvailable:
		case AllocatableMemory:
			group, at = w.tree, container.PodsCgroup
		default:
			continue
		}
		o, found := seen[t.Signal]
		if !found {
			continue
		}
		if err := w.watch(ctx, t, group, at, o); err != nil {
			klog.FromContext(ctx).V(2).Info("Memory is looked at by the clock only", "signal", t.Signal, "err", err)
		}
	}
}

// usage is how much may be in use before there is less available than the threshold: what can be had back at any time
// is in use, too.
func (t *Threshold) usage(o Observation) int64 {
	wanted := t.Value.Of(o.Capacity)
	return o.Capacity.Value() - wanted.Value() + o.reclaimable
}

func (w *Watch) watch(ctx context.Context, t Threshold, group *cgroup.Manager, at string, o Observation) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	bytes := t.usage(o)
	old := w.notices[t]
	if bytes <= 0 || (old != nil && abs(old.bytes-bytes) < near) {
		return nil
	}
	if group.Mode() == cgroup.V2 {
		return w.press(ctx)
	}
	next, err := group.UsageNotice(at, uint64(bytes))
	if err != nil {
		return err
	}
	if old != nil {
		err = old.Close()
	}
	w.notices[t] = &notice{next, bytes}
	w.follow(ctx, next)
	return err
}

// press watches, once for all thresholds, whether processes wait for memory.
func (w *Watch) press(ctx context.Context) error {
	if w.pressed {
		return nil
	}
	w.pressed = true // or never
	n, err := cgroup.PressureNotice()
	if err != nil {
		return err
	}
	w.follow(ctx, n)
	return nil
}

// follow passes on what the kernel says until it is closed or ctx ends.
func (w *Watch) follow(ctx context.Context, n *cgroup.Notice) {
	stop := context.AfterFunc(ctx, func() { n.Close() })
	go func() {
		defer stop()
		for {
			if err := n.Wait(); err != nil {
				if !errors.Is(err, os.ErrClosed) {
					klog.FromContext(ctx).Error(err, "The kernel does not tell of memory any more; it is looked at by the clock only")
				}
				return
			}
			select {
			case w.C <- struct{}{}:
			default:
			}
		}
	}()
}

func abs(n int64) int64 { return max(n, -n) }
