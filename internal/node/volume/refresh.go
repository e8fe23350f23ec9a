package volume

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/node/object"
)

// refreshTimeout bounds one refresh of a Pod's volumes.
const refreshTimeout = 30 * time.Second

// Run refreshes volumes as their objects change and their tokens age, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, m.queue.ShutDown)
	defer stop()
	for {
		uid, shutdown := m.queue.Get()
		if shutdown {
			return
		}
		m.refresh(ctx, uid)
		m.queue.Done(uid)
	}
}

// objectChanged has the volumes refreshed that show an object.
func (m *Manager) objectChanged(kind, namespace, name string) {
	if kind == object.KindService {
		return
	}
	for _, uid := range m.cfg.Objects.Users(kind, namespace, name) {
		m.queue.Add(uid)
	}
}

// Update takes note of a changed Pod: volumes that show its labels and annotations follow, and those that a new
// ephemeral container is the first to use are made. Of a Pod without volumes set up it takes none.
func (m *Manager) Update(pod *v1.Pod) {
	m.mu.Lock()
	e := m.pods[pod.UID]
	wanted := false
	if e != nil && e.pod != nil && shownChanged(e.pod, pod) {
		used := usedVolumes(pod)
		wanted = slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return used[v.Name] && (dynamic(&v) || !e.made[v.Name]) })
	}
	if e != nil && e.pod != nil {
		e.pod = pod
	}
	m.mu.Unlock()
	if wanted {
		m.queue.Add(pod.UID)
	}
}

// shownChanged reports whether what volumes may show of a Pod is another: most changes of a Pod are of its status.
func shownChanged(was, is *v1.Pod) bool {
	return was.Generation != is.Generation || !maps.Equal(was.Labels, is.Labels) || !maps.Equal(was.Annotations, is.Annotations)
}

// refresh makes the dynamic volumes of a Pod again, and those that are new to it; what fails is tried again later, and told once a try.
func (m *Manager) refresh(ctx context.Context, uid types.UID) {
	e, end := m.begin(uid, false)
	defer end()
	if e == nil {
		return
	}
	m.mu.Lock()
	pod, made := e.pod, maps.Clone(e.made)
	m.mu.Unlock()
	if pod == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	err := m.setUp(ctx, e, pod, func(v *v1.Volume) bool { return dynamic(v) || !made[v.Name] })
	if err == nil {
		m.queue.Forget(uid)
		return
	}
	if ctx.Err() == context.Canceled {
		return
	}
	klog.ErrorS(err, "Volumes could not be refreshed", "pod", klog.KObj(pod))
	for _, failure := range Failures(err) {
		if m.cfg.Recorder != nil {
			m.cfg.Recorder.Event(pod, v1.EventTypeWarning, "FailedMount", failure)
		}
	}
	m.queue.AddRateLimited(uid)
}

// Failures are what went wrong with each volume in an error of SetUp: one FailedMount event each.
func Failures(err error) []string {
	var several utilerrors.Aggregate
	if !errors.As(err, &several) {
		return []string{err.Error()}
	}
	var list []string
	for _, e := range several.Errors() {
		list = append(list, e.Error())
	}
	return list
}
