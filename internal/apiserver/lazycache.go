package apiserver

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/metadata"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/client-go/tools/cache"
)

// cacheWatches is how many watches of a kind there must be at a time for a cache to be worth it. A cache costs
// memory, a dozen goroutines and a beat every second; a watch by etcd itself costs it a decoding of each
// event.
const cacheWatches = 3

// lazyCache is a store with a watch cache that is made when it is worth it: when several watch the kind, or
// somebody lists it from memory. Most kinds of an idle cluster are watched by the garbage collector alone.
//
// A cache knows nothing older than itself. So a watch that begins before the cache did is served by etcd,
// which keeps the history: nobody can report whether or when the cache was made.
type lazyCache struct {
	storage.Interface // etcd itself
	cfg               cacheConfig
	watches           atomic.Int32

	mu      sync.Mutex // guards making the cache
	started atomic.Pointer[startedCache]
	closed  bool
}

// startedCache is a cache that has been made; it may still be filling.
type startedCache struct {
	*cacher.CacheDelegator
	cacher *cacher.Cacher
	// ready is closed when the cache was first full, and oldest is then the first version that it can watch
	// from.
	ready  chan struct{}
	oldest uint64
	err    error
}

type cacheConfig struct {
	storage              storage.Interface
	config               *storagebackend.ConfigForResource
	prefix               string
	keyFunc              func(runtime.Object) (string, error)
	newFunc, newListFunc func() runtime.Object
	attributes           storage.AttrFunc
	triggers             storage.IndexerFuncs
	indexers             *cache.Indexers
}

func newLazyCache(raw storage.Interface, cfg cacheConfig) *lazyCache {
	return &lazyCache{Interface: raw, cfg: cfg}
}

// full returns the cache when it has been made and is full, or nil.
func (l *lazyCache) full() *startedCache {
	c := l.started.Load()
	if c == nil || !c.cacher.Ready() {
		return nil
	}
	return c
}

// start returns the cache, which it makes when there is none yet.
func (l *lazyCache) start() (*startedCache, error) {
	if c := l.started.Load(); c != nil {
		return c, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.started.Load(); c != nil {
		return c, nil
	}
	if l.closed {
		return nil, storage.ErrStorageNotReady
	}
	prompt := &promptStorage{Interface: l.Interface, source: "cache/" + l.cfg.config.GroupResource.String()}
	made, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage:             prompt,
		Versioner:           storage.APIObjectVersioner{},
		GroupResource:       l.cfg.config.GroupResource,
		EventsHistoryWindow: l.cfg.config.EventsHistoryWindow,
		ResourcePrefix:      l.cfg.prefix,
		KeyFunc:             l.cfg.keyFunc,
		NewFunc:             l.cfg.newFunc,
		NewListFunc:         l.cfg.newListFunc,
		GetAttrsFunc:        l.cfg.attributes,
		IndexerFuncs:        l.cfg.triggers,
		Indexers:            l.cfg.indexers,
		Codec:               l.cfg.config.Codec,
		Clock:               cacheClock,
	})
	if err != nil {
		return nil, fmt.Errorf("make the watch cache of %s: %w", l.cfg.config.GroupResource, err)
	}
	c := &startedCache{CacheDelegator: cacher.NewCacheDelegator(made, l.Interface), cacher: made, ready: make(chan struct{})}
	go func() {
		defer close(c.ready)
		if c.err = made.Wait(context.Background()); c.err == nil {
			c.oldest, c.err = made.LastSyncResourceVersion()
		}
	}()
	l.started.Store(c)
	return c, nil
}

// Watch implements storage.Interface.
func (l *lazyCache) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	w, err := l.watch(ctx, key, opts, l.watches.Add(1))
	if err != nil {
		l.watches.Add(-1)
		return nil, err
	}
	return &countedWatch{Interface: w, end: func() { l.watches.Add(-1) }}, nil
}

// countedWatch calls end once, when it is stopped.
type countedWatch struct {
	watch.Interface
	once sync.Once
	end  func()
}

// Stop implements watch.Interface.
func (w *countedWatch) Stop() {
	w.Interface.Stop()
	w.once.Do(w.end)
}

func (l *lazyCache) watch(ctx context.Context, key string, opts storage.ListOptions, watches int32) (watch.Interface, error) {
	if watches < cacheWatches && l.started.Load() == nil {
		return l.watchEtcd(ctx, key, opts)
	}
	c, err := l.start()
	if err != nil {
		return nil, err
	}
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.err != nil {
		return nil, c.err
	}
	if from, err := strconv.ParseUint(opts.ResourceVersion, 10, 64); err == nil && from > 0 && from < c.oldest {
		return l.watchEtcd(ctx, key, opts)
	}
	// A cache that has lost etcd for a moment returns an error until it is full again; wait instead.
	if err := c.cacher.Wait(ctx); err != nil {
		return nil, err
	}
	return c.CacheDelegator.Watch(ctx, key, opts)
}

// watchEtcd watches without a cache. The bookmarks are etcd's progress notices.
func (l *lazyCache) watchEtcd(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	opts.ProgressNotify = opts.Predicate.AllowWatchBookmarks
	return l.Interface.Watch(ctx, key, opts)
}

// Get implements storage.Interface.
func (l *lazyCache) Get(ctx context.Context, key string, opts storage.GetOptions, into runtime.Object) error {
	if c := l.full(); c != nil {
		return c.CacheDelegator.Get(ctx, key, opts, into)
	}
	return l.Interface.Get(ctx, key, opts, into)
}

// GetList implements storage.Interface. Any version at all (0) is asked for by those who ask often.
func (l *lazyCache) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	if c := l.full(); c != nil {
		return c.CacheDelegator.GetList(ctx, key, opts, list)
	}
	if opts.ResourceVersion == "0" {
		if _, err := l.start(); err != nil {
			return err
		}
	}
	return l.Interface.GetList(ctx, key, opts, list)
}

// Delete implements storage.Interface.
func (l *lazyCache) Delete(ctx context.Context, key string, out runtime.Object, pre *storage.Preconditions, validate storage.ValidateObjectFunc, existing runtime.Object, opts storage.DeleteOptions) error {
	if c := l.full(); c != nil {
		return c.CacheDelegator.Delete(ctx, key, out, pre, validate, existing, opts)
	}
	return l.Interface.Delete(ctx, key, out, pre, validate, existing, opts)
}

// GuaranteedUpdate implements storage.Interface.
func (l *lazyCache) GuaranteedUpdate(ctx context.Context, key string, into runtime.Object, ignoreNotFound bool, pre *storage.Preconditions, update storage.UpdateFunc, existing runtime.Object) error {
	if c := l.full(); c != nil {
		return c.CacheDelegator.GuaranteedUpdate(ctx, key, into, ignoreNotFound, pre, update, existing)
	}
	return l.Interface.GuaranteedUpdate(ctx, key, into, ignoreNotFound, pre, update, existing)
}

// ReadinessCheck implements storage.Interface: a cache that nobody wanted yet is as good as a full one.
func (l *lazyCache) ReadinessCheck() error {
	if c := l.started.Load(); c != nil {
		return c.CacheDelegator.ReadinessCheck()
	}
	return nil
}

func (l *lazyCache) destroy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	if c := l.started.Load(); c != nil {
		c.CacheDelegator.Stop()
		c.cacher.Stop()
	}
}

// promptStorage is etcd as a watch cache sees it. When a reader wants what is current, the cache asks etcd
// for the newest version and waits until its watch has come so far; on a kind that does not change it would
// learn so only from the progress notice that it asks for every 100 ms. Here the notice is asked for along
// with the version, so that such a read takes one round trip.
//
// Each cache has a watch stream of its own (clientv3 keeps one for each set of metadata), so that a notice
// goes to the one cache that wants it.
type promptStorage struct {
	storage.Interface
	source string
}

func (p *promptStorage) context(ctx context.Context) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.Pairs("source", p.source))
}

// Watch implements storage.Interface.
func (p *promptStorage) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	return p.Interface.Watch(p.context(ctx), key, opts)
}

// RequestWatchProgress implements storage.Interface.
func (p *promptStorage) RequestWatchProgress(ctx context.Context) error {
	return p.Interface.RequestWatchProgress(p.context(ctx))
}

// GetCurrentResourceVersion implements storage.Interface.
func (p *promptStorage) GetCurrentResourceVersion(ctx context.Context) (uint64, error) {
	version, err := p.Interface.GetCurrentResourceVersion(ctx)
	if err == nil {
		// Should this fail, the cache asks again by itself.
		_ = p.RequestWatchProgress(context.WithoutCancel(ctx))
	}
	return version, err
}
