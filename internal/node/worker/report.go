package worker

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/podutil"
)

// A failed write is tried again after a tenth of a second, and after twice as long each time, to five seconds.
const (
	firstRetry = 100 * time.Millisecond
	maxRetry   = 5 * time.Second
	// maxWriters is the most writes at once: enough to keep a busy API server busy, and no more.
	maxWriters = 32
	// fieldManager owns what is written, as in Kubernetes.
	fieldManager = "kubelet"
)

// reporter writes the statuses of Pods to the API, and removes the objects of deleted Pods that are gone.
//
// For each Pod only the newest status counts: while one is being written, later ones replace each other. A
// status is written with the resource version of the object it was made for, so that nothing that another
// wrote is lost; a conflict reads the object again. What the API says of the Pod is compared whenever it
// changes there, and put right when someone else has changed what is the node's to say.
type reporter struct {
	client kubernetes.Interface // nil writes nothing
	clock  clock.WithTicker
	slots  chan struct{}

	mu      sync.Mutex
	ctx     context.Context // nil until start
	entries map[types.UID]*entry
	mirrors map[string]*v1.Pod // by full name
}

// entry is what is to be told of one Pod.
type entry struct {
	uid types.UID
	// object is the newest the API is known to have, nil for a static Pod without a mirror.
	object *v1.Pod
	static bool
	name   string // full name
	status v1.PodStatus
	// runs is that something of the Pod may still run, gone that nothing is left of it.
	runs, gone bool
	// dirty is that there is something to compare or to write, busy that a goroutine does.
	dirty, busy bool
	trace       *tracer
	// sent is what was written last, got what the API made of it. Where the API keeps its own mind it is
	// not written to again and again.
	sent, got *v1.PodStatus
}

// insists reports whether the API has answered to just this status with just the one it has.
func (e *entry) insists(st, has *v1.PodStatus) bool {
	return e.sent != nil && apiequality.Semantic.DeepEqual(e.sent, st) && apiequality.Semantic.DeepEqual(e.got, has)
}

func newReporter(client kubernetes.Interface, clock clock.WithTicker) *reporter {
	return &reporter{
		client: client, clock: clock, slots: make(chan struct{}, maxWriters),
		entries: map[types.UID]*entry{}, mirrors: map[string]*v1.Pod{},
	}
}

// start lets the reporter write until ctx ends.
func (r *reporter) start(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ctx = ctx
	for _, e := range r.entries {
		r.kickLocked(e)
	}
}

// set says what is to be told of a Pod from now on.
func (r *reporter) set(p *v1.Pod, static bool, st v1.PodStatus, runs, gone bool, trace *tracer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[p.UID]
	if e == nil {
		e = &entry{uid: p.UID, static: static, name: fullName(p), trace: trace}
		r.entries[p.UID] = e
	}
	if static {
		e.object = r.mirrors[e.name]
	} else {
		e.object = newer(e.object, p)
	}
	e.status, e.runs, e.gone = st, runs, gone
	e.dirty = true
	r.kickLocked(e)
}

// newer is the newer of two states of an object.
func newer(a, b *v1.Pod) *v1.Pod {
	if a == nil {
		return b
	}
	if order, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion); err == nil && order > 0 {
		return a
	}
	return b
}

// forget drops a Pod that is gone.
func (r *reporter) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.entries, uid)
}

// mirror takes in the object that stands in the API for a static Pod.
func (r *reporter) mirror(p *v1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := fullName(p)
	if old := r.mirrors[name]; old != nil && old.UID == p.UID {
		p = newer(old, p)
	}
	r.mirrors[name] = p
	for _, e := range r.entries {
		if e.static && e.name == name {
			e.object, e.dirty = p, true
			r.kickLocked(e)
		}
	}
}

// unmirror takes in that the object of a static Pod is gone.
func (r *reporter) unmirror(p *v1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := fullName(p)
	if old := r.mirrors[name]; old == nil || old.UID != p.UID {
		return
	}
	delete(r.mirrors, name)
	for _, e := range r.entries {
		if e.static && e.name == name {
			e.object = nil
		}
	}
}

// kickLocked makes sure that a goroutine looks after the entry. The lock is held.
func (r *reporter) kickLocked(e *entry) {
	if r.ctx == nil || r.client == nil || e.busy || !e.dirty {
		return
	}
	e.busy = true
	go r.flush(r.ctx, e)
}

// flush writes what is to be told of a Pod until there is nothing more to tell.
func (r *reporter) flush(ctx context.Context, e *entry) {
	wait := firstRetry
	for {
		object, merged, remove, ok := r.next(e)
		if !ok {
			return
		}
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		err := r.write(ctx, e, object, merged, remove)
		<-r.slots
		if err == nil {
			wait = firstRetry
			continue
		}
		klog.FromContext(ctx).V(2).Info("Cannot tell the status of a pod yet", "pod", klog.KObj(object), "err", err)
		timer := r.clock.NewTimer(wait)
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wait = min(2*wait, maxRetry)
		r.again(e)
	}
}

// again marks the entry to be looked at again.
func (r *reporter) again(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.dirty = true
}

// next returns what is to be written: a status for the object when merged is not nil, its removal when
// remove is set. ok is false when there is nothing to do any more.
func (r *reporter) next(e *entry) (object *v1.Pod, merged *v1.PodStatus, remove, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e.dirty && r.entries[e.uid] == e {
		e.dirty = false
		object = e.object
		if object == nil {
			continue
		}
		st := pod.Publish(object, &object.Status, &e.status, e.runs, metav1.NewTime(r.clock.Now()))
		if !apiequality.Semantic.DeepEqual(&object.Status, &st) && !e.insists(&st, &object.Status) {
			merged = &st
		}
		ended := podutil.Terminal(st.Phase)
		remove = !e.static && e.gone && ended && object.DeletionTimestamp != nil
		if merged != nil || remove {
			return object, merged, remove, true
		}
	}
	e.busy = false
	return nil, nil, false, false
}

// write writes a status, and removes the object of a Pod that is gone.
func (r *reporter) write(ctx context.Context, e *entry, object *v1.Pod, merged *v1.PodStatus, remove bool) error {
	pods := r.client.CoreV1().Pods(object.Namespace)
	if merged != nil {
		update := *object
		update.Status = *merged
		var got *v1.Pod
		err := e.trace.step(r.clock, "report", "", func() (err error) {
			got, err = pods.UpdateStatus(ctx, &update, metav1.UpdateOptions{FieldManager: fieldManager})
			return err
		})
		switch {
		case apierrors.IsConflict(err):
			return r.reread(ctx, e, object)
		case apierrors.IsNotFound(err):
			r.vanished(e, object)
			return nil
		case err != nil:
			return err
		}
		object = r.wrote(e, got)
		r.keep(e, merged, &got.Status)
	}
	if !remove {
		return nil
	}
	none := int64(0)
	err := e.trace.step(r.clock, "delete", "", func() error {
		return pods.Delete(ctx, object.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &none, Preconditions: metav1.NewUIDPreconditions(string(object.UID)),
		})
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		r.vanished(e, object)
		return nil
	}
	return err
}

// wrote takes in the object as the API has it after a write.
func (r *reporter) wrote(e *entry, got *v1.Pod) *v1.Pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.object != nil && e.object.UID == got.UID {
		e.object = newer(e.object, got)
		if e.static {
			r.mirrors[e.name] = e.object
		}
	}
	return got
}

// keep remembers what was written, if the API made something else of it.
func (r *reporter) keep(e *entry, sent, got *v1.PodStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.sent, e.got = nil, nil
	if !apiequality.Semantic.DeepEqual(sent, got) {
		e.sent, e.got = sent, got
	}
}

// reread reads the object again after a conflict.
func (r *reporter) reread(ctx context.Context, e *entry, object *v1.Pod) error {
	got, err := r.client.CoreV1().Pods(object.Namespace).Get(ctx, object.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && got.UID != object.UID) {
		r.vanished(e, object)
		return nil
	}
	if err != nil {
		return err
	}
	r.wrote(e, got)
	r.again(e)
	return nil
}

// vanished takes in that the API has the object no more: there is nobody left to tell.
func (r *reporter) vanished(e *entry, object *v1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.object != nil && e.object.UID == object.UID {
		e.object = nil
	}
}
