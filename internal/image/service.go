package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/sirupsen/logrus"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"k8s.io/klog/v2"
)

const (
	// namespace is containerd's namespace of Kubernetes' images; here it is the only one.
	namespace = "k8s.io"
	// snapshotterName names the snapshotter in metadata and in the labels that keep snapshots alive.
	snapshotterName = "overlayfs"
	// lockWait is how long another process may hold the store before Open gives up.
	lockWait = 2 * time.Second
)

// Service is the image store of one node. Its methods may be called from many goroutines.
//
// What is on disk: content (blobs by digest, fsynced before they are named), meta.db (names, labels, references;
// every transaction fsynced), snapshots (unpacked layers, synced before they are committed) and rootfs (the writable
// layers of containers, see Rootfs). A power cut at any moment leaves only whole images: what was begun and not
// finished is held by a lease of the unfinished work, and Open drops those.
type Service struct {
	cfg       Config
	bolt      *bolt.DB
	db        *metadata.DB
	content   content.Store
	overlay   snapshots.Snapshotter
	snapshots snapshots.Snapshotter
	images    images.Store
	leases    leases.Manager
	platform  platforms.MatchComparer

	index    index
	uses     uses
	flights  flights
	transfer keyedLocks
	drop     *drop

	// ctx ends with Close; work that no caller waits for runs under it.
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
	collect chan struct{}
	// collecting is held while what nothing refers to is removed.
	collecting sync.Mutex
	// working is read-locked by whoever writes content.
	working sync.RWMutex
}

// Open opens the store, which one process may have open at a time, and puts away what an earlier one left unfinished.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	root := cfg.Paths.ImageStore
	if strings.ContainsAny(root, `,:\`) {
		return nil, invalid(fmt.Errorf(`open the image store %s: a path with a comma, a colon or a backslash cannot be mounted; choose another root`, root))
	}
	if err := os.MkdirAll(filepath.Join(root, "rootfs"), 0o700); err != nil {
		return nil, fmt.Errorf("make the image store: %w", err)
	}
	s := &Service{cfg: cfg, platform: platforms.Default(), collect: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(inStore(context.WithoutCancel(ctx)))
	s.drop = newDrop(s.readTaken())
	if err := s.open(root); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.restore(); err != nil {
		s.Close()
		return nil, err
	}
	s.work.Go(s.collector)
	return s, nil
}

func (s *Service) open(root string) error {
	blobs, err := local.NewStore(filepath.Join(root, "content"))
	if err != nil {
		return fmt.Errorf("open the image store's content: %w", err)
	}
	s.overlay, err = overlay.NewSnapshotter(filepath.Join(root, "snapshots"), overlay.AsynchronousRemove, overlay.WithUpperdirLabel)
	if err != nil {
		return fmt.Errorf("open the image store's snapshots: %w", err)
	}
	path := filepath.Join(root, "meta.db")
	s.bolt, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return fmt.Errorf("open the image store %s: another process has it open; stop that one first", root)
	}
	if err != nil {
		return fmt.Errorf("open the image store's metadata %s: %w", path, err)
	}
	s.db = metadata.NewDB(s.bolt, blobs, map[string]snapshots.Snapshotter{snapshotterName: s.overlay})
	if err := s.db.Init(s.ctx); err != nil {
		return fmt.Errorf("open the image store's metadata %s: %w", path, err)
	}
	s.content, s.snapshots = s.db.ContentStore(), s.db.Snapshotter(snapshotterName)
	s.images, s.leases = metadata.NewImageStore(s.db), metadata.NewLeaseManager(s.db)
	return nil
}

// roomy is the content store for writing.
func (s *Service) roomy() roomy { return roomy{Store: s.content, dir: s.cfg.Paths.ImageStore} }

// restore reads what there is and drops what was begun and not finished.
func (s *Service) restore() error {
	unfinished, err := s.leases.List(s.ctx, `labels."`+workLabel+`"`)
	if err != nil {
		return fmt.Errorf("list the image store's leases: %w", err)
	}
	for _, l := range unfinished {
		if err := s.leases.Delete(s.ctx, l); err != nil {
			return fmt.Errorf("drop what was left unfinished in the image store: %w", err)
		}
	}
	if err := s.readIndex(); err != nil {
		return err
	}
	if err := s.readUses(); err != nil {
		return err
	}
	s.requestCollect()
	if err := s.dropFolders(); err != nil {
		return err
	}
	return s.markOrphans()
}

// dropFolders removes the folders of layers whose making a crash cut short, before the next layer is made: it would
// get the number of one of them, and could not have its place.
func (s *Service) dropFolders() error {
	cleaner, ok := s.overlay.(snapshots.Cleaner)
	if !ok {
		return nil
	}
	err := cleaner.Cleanup(s.ctx)
	if errdefs.IsNotFound(err) {
		// There has never been a whole layer, so all there is are such folders.
		dir := filepath.Join(s.cfg.Paths.ImageStore, "snapshots", "snapshots")
		if err = os.RemoveAll(dir); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil {
		return fmt.Errorf("remove unfinished layers: %w", err)
	}
	return nil
}

// markOrphans has the next collection look through all layers when the snapshotter has some that metadata does not
// know of: a crash came between the two steps of making or of removing one. A collection looks there by itself only
// once a layer has been removed.
func (s *Service) markOrphans() error {
	made, err := s.countLayers(s.overlay)
	if err != nil {
		return err
	}
	known, err := s.countLayers(s.snapshots)
	if err != nil || made == known {
		return err
	}
	ctx, done, err := s.hold(s.ctx)
	if err != nil {
		return err
	}
	defer done(false)
	const mark = "orphans"
	if _, err := s.snapshots.View(ctx, mark, ""); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("look for unfinished layers: %w", err)
	}
	if err := s.snapshots.Remove(ctx, mark); err != nil {
		return fmt.Errorf("look for unfinished layers: %w", err)
	}
	return nil
}

// countLayers answers how many layers the snapshotter knows.
func (s *Service) countLayers(from snapshots.Snapshotter) (n int, err error) {
	err = from.Walk(s.ctx, func(context.Context, snapshots.Info) error {
		n++
		return nil
	})
	// Not found: there has never been a layer.
	if err != nil && !errdefs.IsNotFound(err) {
		return 0, fmt.Errorf("count the layers of the image store: %w", err)
	}
	return n, nil
}

// Close ends what runs in the background and closes the store.
func (s *Service) Close() error {
	s.cancel()
	s.work.Wait()
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.bolt != nil {
		errs = append(errs, s.bolt.Close())
	}
	if s.overlay != nil {
		errs = append(errs, s.overlay.Close())
	}
	return errors.Join(errs...)
}

// inStore is ctx as containerd's packages want it: with a namespace, and with a log of ours.
func inStore(ctx context.Context) context.Context {
	return log.WithLogger(namespaces.WithNamespace(ctx, namespace), libraryLog)
}

// libraryLog takes what containerd's packages log to klog, for those who ask for more than usual: what goes wrong
// comes back as an error too.
var libraryLog = func() *log.Entry {
	l := logrus.New()
	l.SetLevel(logrus.WarnLevel)
	l.SetOutput(io.Discard)
	l.AddHook(klogHook{})
	// Some of it is logged with no context.
	log.L = logrus.NewEntry(l)
	return log.L
}()

type klogHook struct{}

func (klogHook) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel} }

func (klogHook) Fire(e *logrus.Entry) error {
	fields := make([]any, 0, 2*len(e.Data))
	for k, v := range e.Data {
		fields = append(fields, k, v)
	}
	klog.Background().WithName("image").V(2).Info(e.Message, fields...)
	return nil
}

// start runs f in the background, under a context that ends with Close, which waits for it.
func (s *Service) start(f func(context.Context)) {
	s.work.Go(func() { f(s.ctx) })
}

// workLabel marks the leases of unfinished work.
const workLabel = "podium.dev/unfinished"

// hold returns a context under which all that is written is kept until done is called, which must be told
// whether the work failed: what it wrote and nothing else refers to is then put away.
func (s *Service) hold(ctx context.Context) (held context.Context, done func(failed bool), err error) {
	ctx = inStore(ctx)
	lease, err := s.leases.Create(ctx, leases.WithRandomID(), leases.WithLabel(workLabel, "true"))
	if err != nil {
		return nil, nil, fmt.Errorf("reserve room in the image store: %w", err)
	}
	s.working.RLock()
	done = func(failed bool) {
		// The caller may have gone; the lease must not stay for that.
		if err := s.leases.Delete(s.ctx, lease); err != nil {
			klog.FromContext(ctx).Error(err, "A lease of the image store stays until the next start", "lease", lease.ID)
		}
		s.working.RUnlock()
		if failed {
			s.requestCollect()
		}
	}
	return leases.WithLease(ctx, lease.ID), done, nil
}

// requestCollect asks for what nothing refers to to be removed soon.
func (s *Service) requestCollect() {
	select {
	case s.collect <- struct{}{}:
	default:
	}
}

// collector removes, whenever asked to, what nothing refers to.
func (s *Service) collector() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.collect:
			if err := s.collectNow(s.ctx); err != nil && s.ctx.Err() == nil {
				klog.FromContext(s.ctx).Error(err, "Unused image data stays until the next removal")
			}
		}
	}
}

// collectNow removes blobs and snapshots that no image, no lease and no container refers to.
func (s *Service) collectNow(ctx context.Context) error {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	if _, err := s.db.GarbageCollect(ctx); err != nil {
		return fmt.Errorf("remove unused image data: %w", err)
	}
	cleaner, ok := s.overlay.(snapshots.Cleaner)
	if !ok {
		return nil
	}
	// Not found: there has never been a snapshot.
	if err := cleaner.Cleanup(ctx); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove unused image layers: %w", err)
	}
	return errors.Join(s.emptyTrash(), s.dropIngests())
}

// dropIngests removes blobs whose writing did not even begin well, on a full disk, so that metadata does not know of
// them. While others are being written it leaves all in place.
func (s *Service) dropIngests() error {
	if !s.working.TryLock() {
		return nil
	}
	defer s.working.Unlock()
	left, err := filepath.Glob(filepath.Join(s.cfg.Paths.ImageStore, "content", "ingest", "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range left {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
