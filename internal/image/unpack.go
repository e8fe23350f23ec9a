package image

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/core/unpack"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"
)

// layersAtOnce is how many blobs of one image are fetched at the same time.
const layersAtOnce = 3

// bring walks from target down to the layers, has each blob fetched by fetch (nil where all are here), and unpacks the
// layers of this machine's platform. Blobs and layers that are here are left as they are, and one that another
// transfer is bringing is waited for. seen, which may be nil, is told what each blob leads to.
func (s *Service) bring(ctx context.Context, target ocispec.Descriptor, fetch images.Handler, seen func(ocispec.Descriptor, []ocispec.Descriptor)) error {
	children := images.SetChildrenLabels(s.content, boundLayers(images.ChildrenHandler(documents{s.content})))
	children = images.FilterPlatforms(children, s.platform)
	children = images.LimitManifests(children, s.platform, 1)
	follow := images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		found, err := children(ctx, d)
		if err == nil && seen != nil {
			seen(d, found)
		}
		return found, err
	})
	steps := []images.Handler{boundDocuments(), follow}
	if fetch != nil {
		steps = []images.Handler{boundDocuments(), fetch, follow}
	}
	limiter := semaphore.NewWeighted(layersAtOnce)
	unpacker, err := unpack.NewUnpacker(ctx, documents{s.content},
		unpack.WithUnpackPlatform(unpack.Platform{
			SnapshotterKey: snapshotterName,
			Snapshotter:    s.snapshots,
			Applier:        applier{blobs: s.content},
		}),
		unpack.WithLimiter(limiter),
		unpack.WithDuplicationSuppressor(&s.transfer),
	)
	if err != nil {
		return fmt.Errorf("prepare to unpack: %w", err)
	}
	dispatchErr := images.Dispatch(ctx, unpacker.Unpack(images.Handlers(steps...)), limiter, target)
	_, unpackErr := unpacker.Wait()
	if dispatchErr != nil {
		return dispatchErr
	}
	return unpackErr
}

// inTransaction runs f in one transaction of the metadata: all it writes is there, or nothing.
func (s *Service) inTransaction(ctx context.Context, f func(context.Context) error) error {
	return s.db.Update(func(tx *bolt.Tx) error { return f(boltutil.WithTransaction(ctx, tx)) })
}

// keyedLocks is a lock a key, there as long as somebody holds or awaits it.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	token chan struct{} // holds one element while the lock is free
	users int
}

// Lock locks a key; the error is ctx's.
func (k *keyedLocks) Lock(ctx context.Context, key string) error {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyedLock{}
	}
	l := k.locks[key]
	if l == nil {
		l = &keyedLock{token: make(chan struct{}, 1)}
		l.token <- struct{}{}
		k.locks[key] = l
	}
	l.users++
	k.mu.Unlock()
	select {
	case <-l.token:
		return nil
	case <-ctx.Done():
		k.leave(key, l)
		return ctx.Err()
	}
}

// Unlock unlocks a key that is locked.
func (k *keyedLocks) Unlock(key string) {
	k.mu.Lock()
	l := k.locks[key]
	k.mu.Unlock()
	l.token <- struct{}{}
	k.leave(key, l)
}

func (k *keyedLocks) leave(key string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.locks, key)
	}
}
