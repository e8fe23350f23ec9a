package static

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/util/inotify"
)

// settle is how long changes are gathered before the folder is looked at.
const settle = 20 * time.Millisecond

// fileSource follows the folder of manifests.
type fileSource struct {
	config  Config
	folder  *folder
	watcher *inotify.Watcher
	sink    sink
	// objects are those of the folder that were handed out last.
	objects []runtime.Object
}

func newFileSource(c Config) *fileSource {
	return &fileSource{config: c, folder: newFolder(c), sink: newSink(c, SourceFile)}
}

// run looks at the folder when it begins, when the kernel tells of a change, and every so often.
func (s *fileSource) run(ctx context.Context) {
	changes := s.watch(ctx)
	ticker := s.config.Clock.NewTicker(s.config.PathFrequency)
	defer ticker.Stop()
	due := s.look(true)
	for {
		wait, stop := s.until(due)
		select {
		case <-ctx.Done():
			stop()
			return
		case <-ticker.C():
			due = s.look(true)
		case <-wait:
			due = s.look(false)
		case list := <-changes:
			s.note(list)
			// Not later than is arranged already: a file that is written to without end delays no other.
			if soon := s.config.Clock.Now().Add(settle); due.IsZero() || soon.Before(due) {
				due = soon
			}
		}
		stop()
	}
}

// until is when a time has come; never for zero.
func (s *fileSource) until(due time.Time) (<-chan time.Time, func()) {
	if due.IsZero() {
		return nil, func() {}
	}
	timer := s.config.Clock.NewTimer(due.Sub(s.config.Clock.Now()))
	return timer.C(), func() { timer.Stop() }
}

// watch begins to watch the folder and hands out its changes. Without the kernel's help the slow look alone
// finds them.
func (s *fileSource) watch(ctx context.Context) <-chan []inotify.Change {
	w, err := inotify.New()
	if err != nil {
		klog.ErrorS(err, "The folder of static pods is not watched, only looked at", "path", s.config.Path, "every", s.config.PathFrequency)
		return nil
	}
	s.watcher = w
	return w.Changes(ctx, func(err error) {
		klog.ErrorS(err, "The watch of the folder of static pods ended", "path", s.config.Path)
	})
}

// note takes in who writes to what: a file that is being written is read when it is closed.
func (s *fileSource) note(list []inotify.Change) {
	for _, c := range list {
		switch {
		case c.Name == "":
		case c.Mask&unix.IN_CLOSE_WRITE != 0, c.Mask&(unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE) != 0:
			delete(s.folder.writing, c.Name)
		case c.Mask&unix.IN_MODIFY != 0, c.Mask&unix.IN_CREATE != 0 && s.opened(c.Name):
			s.folder.writing[c.Name] = true
		}
	}
}

// opened reports whether a new entry was made by opening it, so that it will be closed. Links come whole.
func (s *fileSource) opened(name string) bool {
	info, err := os.Lstat(filepath.Join(s.watcher.Dir(), name))
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 1
}

// look reads the folder and tells of what changed. due is when to look again though nothing is told, zero for
// never.
func (s *fileSource) look(slow bool) (due time.Time) {
	if s.watcher != nil {
		moved, err := s.watcher.Follow(s.config.Path)
		if err != nil {
			klog.ErrorS(err, "The folder of static pods is not watched", "path", s.config.Path)
		}
		if moved {
			// What happened before the watch began was not told: nothing is known to be written to.
			clear(s.folder.writing)
		}
	}
	now := s.config.Clock.Now()
	all, again, err := s.folder.look(now, slow)
	if err != nil {
		klog.ErrorS(err, "Unable to read config path", "path", s.config.Path)
		return time.Time{}
	}
	s.share(all.objects)
	s.sink.put(all.pods)
	if again == 0 {
		return time.Time{}
	}
	return now.Add(again)
}

// share hands out the objects of the folder when they are others than before; the Pods that need them come after.
func (s *fileSource) share(objects []runtime.Object) {
	if s.config.Objects == nil || apiequality.Semantic.DeepEqual(s.objects, objects) {
		return
	}
	s.objects = objects
	s.config.Objects(slices.Clone(objects))
}

// sink hands out the Pods of a source when they are others than before.
type sink struct {
	config Config
	source string
	told   bool
	last   []*v1.Pod
}

func newSink(c Config, source string) sink { return sink{config: c, source: source} }

func (s *sink) put(pods []*v1.Pod) {
	for i, pod := range pods {
		pods[i] = s.seen(pod)
	}
	if s.told && slices.Equal(pods, s.last) {
		return
	}
	s.told, s.last = true, pods
	s.config.Sink(s.source, slices.Clone(pods))
}

// seen is a Pod with the time it was first seen, which stays with it while it is there and the same.
func (s *sink) seen(pod *v1.Pod) *v1.Pod {
	pod = pod.DeepCopy()
	for _, had := range s.last {
		if had.UID == pod.UID {
			pod.Annotations[annotationSeen] = had.Annotations[annotationSeen]
			if apiequality.Semantic.DeepEqual(had, pod) {
				return had
			}
			return pod
		}
	}
	pod.Annotations[annotationSeen] = s.config.Clock.Now().Format(time.RFC3339Nano)
	return pod
}
