package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/safeopen"
	"podium.dev/podium/internal/util/atomicfile"
)

// drop is the folder of archives that are taken in by themselves.
type drop struct {
	limiter *semaphore.Weighted
	locks   keyedLocks

	mu      sync.Mutex
	taken   map[string]takenFile
	settled chan struct{} // closed when what was there at the start has been looked at
	news    chan struct{} // closed, and made again, when an archive has been looked at
}

// takenFile is an archive as it was when it was taken in.
type takenFile struct {
	Size    int64
	ModTime time.Time
	// Images are the IDs of the images it held, Tags all their names.
	Images, Tags []string
}

func newDrop(taken map[string]takenFile) *drop {
	return &drop{
		limiter: semaphore.NewWeighted(int64(max(2, runtime.NumCPU()/2))), taken: taken,
		settled: make(chan struct{}), news: make(chan struct{}),
	}
}

// Watch takes in, until ctx ends, the archives that lie in the images folder or are put there: those that end in .tar,
// .tar.gz, .tgz, .tar.zst or .tzst and do not begin with a dot. It is called once; its error says why it ended by
// itself. An archive is known again by size and time of change, and is not read twice unless an image of it was
// removed; one that is still being written is taken in when its writer closes it. A bad one is told in the log and
// leaves the store as it was.
func (s *Service) Watch(ctx context.Context) error {
	var initial sync.WaitGroup
	// Also when it comes to nothing: those who await an image go on.
	defer s.drop.settle()
	defer initial.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	dir := s.cfg.Paths.Images
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the images folder: %w", err)
	}
	w, err := watchFolder(dir)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { w.Close() })()
	defer w.Close()
	if err := s.takeAll(ctx, &initial); err != nil {
		return err
	}
	s.work.Go(func() {
		initial.Wait()
		s.drop.settle()
	})
	return s.follow(ctx, w)
}

// Settled is closed when all archives that lay in the images folder when Watch began have been looked at.
func (s *Service) Settled() <-chan struct{} { return s.drop.settled }

// settle tells that all archives of the start have been looked at.
func (d *drop) settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.settled:
	default:
		close(d.settled)
	}
}

// Await is Find that, until the archives of the start have been taken in, waits for them: the image may be on its way.
func (s *Service) Await(ctx context.Context, ref string) (Image, error) {
	for {
		s.drop.mu.Lock()
		news := s.drop.news
		s.drop.mu.Unlock()
		over := false
		select {
		case <-s.drop.settled:
			over = true
		default:
		}
		img, err := s.Find(ctx, ref)
		if err == nil || over {
			return img, err
		}
		select {
		case <-ctx.Done():
			return Image{}, ctx.Err()
		case <-s.drop.settled:
		case <-news:
		}
	}
}

// follow takes in what w tells of.
func (s *Service) follow(ctx context.Context, w *folderWatch) error {
	var later sync.WaitGroup
	defer later.Wait()
	for {
		names, lost, err := w.Next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("watch the images folder %s: %w", s.cfg.Paths.Images, err)
		}
		if lost {
			if err := s.takeAll(ctx, &later); err != nil {
				return err
			}
			continue
		}
		for _, name := range names {
			later.Go(func() { s.take(ctx, name) })
		}
	}
}

// takeAll begins to take in all that lies in the folder.
func (s *Service) takeAll(ctx context.Context, wg *sync.WaitGroup) error {
	entries, err := os.ReadDir(s.cfg.Paths.Images)
	if err != nil {
		return fmt.Errorf("read the images folder: %w", err)
	}
	for _, e := range entries {
		wg.Go(func() { s.take(ctx, e.Name()) })
	}
	return nil
}

// take takes in one file of the folder, if it is an archive that is not known yet.
func (s *Service) take(ctx context.Context, name string) {
	if !isArchive(name) {
		return
	}
	d := s.drop
	if d.locks.Lock(ctx, name) != nil {
		return
	}
	defer d.locks.Unlock(name)
	defer d.tell()
	path := filepath.Join(s.cfg.Paths.Images, name)
	log := klog.FromContext(ctx).WithName("image").WithValues("archive", path)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || s.isTaken(name, info) || isBeingWritten(path)) {
		return
	}
	if err == nil {
		if d.limiter.Acquire(ctx, 1) != nil {
			return
		}
		defer d.limiter.Release(1)
		err = s.takeNew(ctx, path, info)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		log.Error(err, "An archive in the images folder cannot be taken in")
	}
}

func (s *Service) takeNew(ctx context.Context, path string, info os.FileInfo) error {
	start := time.Now()
	imgs, err := s.Load(ctx, path)
	if err != nil {
		return err
	}
	t := takenFile{Size: info.Size(), ModTime: info.ModTime()}
	for _, img := range imgs {
		t.Images = append(t.Images, img.ID)
		t.Tags = append(t.Tags, img.Tags...)
	}
	klog.FromContext(ctx).WithName("image").Info("Took in an archive", "archive", path, "images", t.Tags, "took", time.Since(start).Round(time.Millisecond))
	return s.remember(filepath.Base(path), t)
}

// fromDrop takes in again an image that is no longer here and whose archive still lies in the images folder: on a
// machine with no network, garbage collection would otherwise be for ever. ok is false when there is none.
func (s *Service) fromDrop(ctx context.Context, ref string) (img Image, ok bool) {
	if _, err := s.Find(ctx, ref); err == nil {
		return Image{}, false
	}
	s.drop.mu.Lock()
	var name string
	for n, t := range s.drop.taken {
		if slices.Contains(t.Tags, ref) {
			name = n
		}
	}
	s.drop.mu.Unlock()
	if name == "" {
		return Image{}, false
	}
	s.take(ctx, name)
	img, err := s.Find(ctx, ref)
	return img, err == nil
}

// tell wakes those who await an image.
func (d *drop) tell() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.news)
	d.news = make(chan struct{})
}

// isTaken reports whether the file was taken in as it is and all its images are still here.
func (s *Service) isTaken(name string, info os.FileInfo) bool {
	s.drop.mu.Lock()
	t, ok := s.drop.taken[name]
	s.drop.mu.Unlock()
	if !ok || t.Size != info.Size() || !t.ModTime.Equal(info.ModTime()) {
		return false
	}
	for _, id := range t.Images {
		if _, here := s.index.get(id); !here {
			return false
		}
	}
	return true
}

func (s *Service) takenPath() string { return filepath.Join(s.cfg.Paths.ImageStore, "taken.json") }

// readTaken reads what earlier runs took in. What cannot be read is taken in again, which changes nothing.
func (s *Service) readTaken() map[string]takenFile {
	taken := map[string]takenFile{}
	if raw, err := os.ReadFile(s.takenPath()); err == nil && json.Unmarshal(raw, &taken) != nil {
		return map[string]takenFile{}
	}
	return taken
}

func (s *Service) remember(name string, t takenFile) error {
	d := s.drop
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken[name] = t
	raw, err := json.Marshal(d.taken)
	if err != nil {
		return fmt.Errorf("note which archives are taken in: %w", err)
	}
	if err := atomicfile.Write(s.takenPath(), raw, 0o600, atomicfile.Crash); err != nil {
		return fmt.Errorf("note which archives are taken in: %w", err)
	}
	return nil
}

func isArchive(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	for _, ending := range archiveEndings {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}

// isBeingWritten reports whether somebody has the file open for writing: then the kernel grants no lease to read it.
// Where there are no leases the answer is no, and a file cut short is taken in when it is closed.
func isBeingWritten(path string) bool {
	f, err := safeopen.Following(path)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
}
