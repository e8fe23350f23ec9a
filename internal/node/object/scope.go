package object

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"
)

// How long a failed list or watch waits before the next: doubled each time in a row.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// refusals is how often in a row the API server must refuse to be believed: it learns of a Pod's node, which
// gives the node its rights, a moment after the node learns of the Pod.
const refusals = 4

// scope is one watch and what it knows.
//
//	idle ──start──▶ list ──▶ watch ──▶ list …
//	                          └─ the object says it is immutable ─▶ idle
//
// cancel ends it for good from any state.
type scope struct {
	store *Store
	key   key
	// users counts the Pods that need it; the store's lock guards it.
	users int

	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	running bool
	synced  bool
	// failure is why the last list did not work, failures how many in a row did not.
	failure  error
	failures int
	objects  map[string]runtime.Object
	// changed is closed, and made again, when synced or failure changed.
	changed chan struct{}
}

func newScope(s *Store, k key) *scope {
	sc := &scope{store: s, key: k, objects: map[string]runtime.Object{}, changed: make(chan struct{})}
	sc.ctx, sc.cancel = context.WithCancel(context.Background())
	return sc
}

// start runs the watch unless it runs.
func (sc *scope) start() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if !sc.running {
		sc.running = true
		go sc.run()
	}
}

// read waits until the API server has answered once. A refusal is an answer too.
func (sc *scope) read(ctx context.Context) (map[string]runtime.Object, error) {
	var timeout <-chan time.Time
	for {
		sc.mu.Lock()
		synced, failure, changed := sc.synced, sc.failure, sc.changed
		refused := apierrors.IsForbidden(failure) && sc.failures >= refusals
		if synced {
			defer sc.mu.Unlock()
			known := make(map[string]runtime.Object, len(sc.objects))
			for name, object := range sc.objects {
				known[name] = object
			}
			return known, nil
		}
		sc.mu.Unlock()
		if refused {
			return nil, failure
		}
		if timeout == nil {
			timer := sc.store.clock.NewTimer(syncTimeout)
			defer timer.Stop()
			timeout = timer.C()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, sc.unsynced(ctx.Err(), failure)
		case <-timeout:
			return nil, sc.unsynced(fmt.Errorf("timed out waiting for the condition"), failure)
		case <-sc.ctx.Done():
			return nil, fmt.Errorf("object %q/%q not registered", sc.key.namespace, sc.key.name)
		}
	}
}

func (sc *scope) unsynced(err, failure error) error {
	if failure != nil {
		err = failure
	}
	return fmt.Errorf("failed to sync %s cache: %w", resourceWord[sc.key.kind], err)
}

func (sc *scope) run() {
	retry := firstRetry
	version := ""
	for sc.ctx.Err() == nil {
		began := sc.store.clock.Now()
		var err error
		if version == "" {
			version, err = sc.list()
		}
		if err == nil {
			if sc.stopIfImmutable() {
				return
			}
			version, err = sc.watch(version)
		}
		if err != nil {
			klog.V(2).InfoS("Watch of an object failed", "kind", sc.key.kind, "namespace", sc.key.namespace, "name", sc.key.name, "err", err)
		}
		if err == nil || sc.store.clock.Since(began) > lastRetry {
			retry = firstRetry
		}
		sc.wait(retry)
		retry = min(2*retry, lastRetry)
	}
}

// wait spreads the retries of many watches, half of the time at least.
func (sc *scope) wait(d time.Duration) {
	timer := sc.store.clock.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-sc.ctx.Done():
	}
}

// stopIfImmutable ends a watch that can bring no news.
func (sc *scope) stopIfImmutable() bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.key.name == "" || !immutable(sc.objects[sc.key.name]) {
		return false
	}
	sc.running = false
	return true
}

func immutable(object runtime.Object) bool {
	switch o := object.(type) {
	case *v1.ConfigMap:
		return o.Immutable != nil && *o.Immutable
	case *v1.Secret:
		return o.Immutable != nil && *o.Immutable
	}
	return false
}

func (sc *scope) options() metav1.ListOptions {
	var o metav1.ListOptions
	if sc.key.name != "" {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", sc.key.name).String()
	}
	return o
}

// covers reports whether the scope is about an object, for what answers may hold more than was asked for.
func (sc *scope) covers(name string) bool { return sc.key.name == "" || sc.key.name == name }

// list reads what is there now and returns the version to watch from.
func (sc *scope) list() (version string, err error) {
	list, err := sc.store.list(sc.ctx, sc.key, sc.options())
	var items []runtime.Object
	if err == nil {
		items, err = meta.ExtractList(list)
	}
	if err != nil {
		sc.mu.Lock()
		defer sc.mu.Unlock()
		if sc.ctx.Err() == nil {
			sc.failure = err
			sc.failures++
			sc.wakeLocked()
		}
		return "", err
	}
	found := map[string]runtime.Object{}
	for _, item := range items {
		if object, err := meta.Accessor(item); err == nil && sc.covers(object.GetName()) {
			found[object.GetName()] = item
		}
	}
	sc.replace(found)
	return list.(metav1.ListInterface).GetResourceVersion(), nil
}

// replace takes what a list answered and tells of what it changed.
func (sc *scope) replace(found map[string]runtime.Object) {
	sc.mu.Lock()
	var names []string
	for name, object := range found {
		if !same(sc.objects[name], object) {
			names = append(names, name)
		}
	}
	for name := range sc.objects {
		if found[name] == nil {
			names = append(names, name)
		}
	}
	sc.objects = found
	sc.synced, sc.failure, sc.failures = true, nil, 0
	sc.wakeLocked()
	sc.mu.Unlock()
	for _, name := range names {
		sc.store.notify(sc.key.kind, sc.key.namespace, name)
	}
}

// same reports whether two readings of an object are the same version of it.
func same(a, b runtime.Object) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	x, errX := meta.Accessor(a)
	y, errY := meta.Accessor(b)
	return errX == nil && errY == nil && x.GetUID() == y.GetUID() && x.GetResourceVersion() == y.GetResourceVersion() && x.GetResourceVersion() != ""
}

// wakeLocked tells those who wait; the lock is held.
func (sc *scope) wakeLocked() {
	close(sc.changed)
	sc.changed = make(chan struct{})
}

// watch follows changes until the server ends the watch, and returns the version to go on from: "" to
// list again.
func (sc *scope) watch(version string) (string, error) {
	o := sc.options()
	seconds := 300 + rand.Int64N(300)
	o.ResourceVersion, o.AllowWatchBookmarks, o.TimeoutSeconds = version, true, &seconds
	w, err := sc.store.watch(sc.ctx, sc.key, o)
	if err != nil {
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			return "", nil
		}
		return version, err
	}
	defer w.Stop()
	for {
		select {
		case <-sc.ctx.Done():
			return version, nil
		case event, ok := <-w.ResultChan():
			if !ok {
				return version, nil
			}
			if event.Type == watch.Error {
				return "", apierrors.FromObject(event.Object)
			}
			version = sc.apply(event, version)
		}
	}
}

// apply takes one event and returns its version.
func (sc *scope) apply(event watch.Event, version string) string {
	object, err := meta.Accessor(event.Object)
	if err != nil {
		return version
	}
	if event.Type == watch.Bookmark {
		return object.GetResourceVersion()
	}
	if !sc.covers(object.GetName()) {
		return object.GetResourceVersion()
	}
	sc.mu.Lock()
	before := sc.objects[object.GetName()]
	news := !same(before, event.Object)
	if event.Type == watch.Deleted {
		news = before != nil
		delete(sc.objects, object.GetName())
	} else {
		sc.objects[object.GetName()] = event.Object
	}
	sc.mu.Unlock()
	if news {
		sc.store.notify(sc.key.kind, sc.key.namespace, object.GetName())
	}
	return object.GetResourceVersion()
}

func (s *Store) list(ctx context.Context, k key, o metav1.ListOptions) (runtime.Object, error) {
	core := s.client.CoreV1()
	switch k.kind {
	case KindConfigMap:
		return core.ConfigMaps(k.namespace).List(ctx, o)
	case KindSecret:
		return core.Secrets(k.namespace).List(ctx, o)
	case KindClusterTrustBundle:
		return s.client.CertificatesV1().ClusterTrustBundles().List(ctx, o)
	}
	return core.Services(k.namespace).List(ctx, o)
}

func (s *Store) watch(ctx context.Context, k key, o metav1.ListOptions) (watch.Interface, error) {
	core := s.client.CoreV1()
	switch k.kind {
	case KindConfigMap:
		return core.ConfigMaps(k.namespace).Watch(ctx, o)
	case KindSecret:
		return core.Secrets(k.namespace).Watch(ctx, o)
	case KindClusterTrustBundle:
		return s.client.CertificatesV1().ClusterTrustBundles().Watch(ctx, o)
	}
	return core.Services(k.namespace).Watch(ctx, o)
}
