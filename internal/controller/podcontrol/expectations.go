package podcontrol

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// forgetAfter bounds how long an answer of the API server counts against a watch that does not show it.
const forgetAfter = time.Minute

// Expectations holds, for each owner, the creations and deletions that the API server has acknowledged and the watch has
// not shown yet, so that no object is created or deleted twice. Its methods may be called from several goroutines.
type Expectations struct {
	clock clock.PassiveClock

	mu     sync.Mutex
	owners map[types.UID]*expected
}

// expected is what one owner waits for: the objects by UID, and when the API server acknowledged the call.
type expected struct {
	created, deleted map[types.UID]time.Time
}

// NewExpectations returns Expectations without an entry.
func NewExpectations(c clock.PassiveClock) *Expectations {
	return &Expectations{clock: c, owners: map[types.UID]*expected{}}
}

func (e *Expectations) ownerLocked(uid types.UID) *expected {
	x := e.owners[uid]
	if x == nil {
		x = &expected{created: map[types.UID]time.Time{}, deleted: map[types.UID]time.Time{}}
		e.owners[uid] = x
	}
	return x
}

// Created records an object that was created for the owner.
func (e *Expectations) Created(owner, object types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ownerLocked(owner).created[object] = e.clock.Now()
}

// Deleting records a deletion that is about to be requested, or takes it back when the request failed.
func (e *Expectations) Deleting(owner, object types.UID, failed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.ownerLocked(owner)
	if failed {
		delete(x.deleted, object)
		return
	}
	x.deleted[object] = e.clock.Now()
}

// Gone drops an object that the watch reports as deleted, whether or not it was ever seen.
func (e *Expectations) Gone(owner, object types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.owners[owner]; x != nil {
		delete(x.created, object)
		delete(x.deleted, object)
	}
}

// Forget drops an owner.
func (e *Expectations) Forget(owner types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.owners, owner)
}

// Settle drops what the cache shows by now, or what has been missing for a minute. It returns the number of created
// objects that the cache does not show yet, and a function that reports whether an object's deletion is under way although
// the cache shows it as alive.
func Settle[T metav1.Object](e *Expectations, owner types.UID, cached []T) (unseen int, going func(T) bool) {
	seen := make(map[types.UID]T, len(cached))
	for _, o := range cached {
		seen[o.GetUID()] = o
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.owners[owner]
	if x == nil {
		return 0, func(T) bool { return false }
	}
	now := e.clock.Now()
	for uid, at := range x.created {
		if _, ok := seen[uid]; ok || now.Sub(at) > forgetAfter {
			delete(x.created, uid)
		}
	}
	left := make(map[types.UID]bool, len(x.deleted))
	for uid, at := range x.deleted {
		if o, ok := seen[uid]; !ok || o.GetDeletionTimestamp() != nil || now.Sub(at) > forgetAfter {
			delete(x.deleted, uid)
			continue
		}
		left[uid] = true
	}
	return len(x.created), func(o T) bool { return left[o.GetUID()] }
}

// MarkGoing returns the Pods, with those whose deletion is under way marked as being deleted although the cache does not
// show it yet. Who counts Pods must not take one that is already lost for one that serves: it would take down another.
func MarkGoing(pods []*corev1.Pod, going func(*corev1.Pod) bool, now time.Time) []*corev1.Pod {
	out := make([]*corev1.Pod, len(pods))
	for i, p := range pods {
		if p.DeletionTimestamp == nil && going(p) {
			p = p.DeepCopy()
			p.DeletionTimestamp = &metav1.Time{Time: now}
		}
		out[i] = p
	}
	return out
}
