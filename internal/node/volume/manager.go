// Package volume makes the volumes of this node's Pods on the host, keeps them as their sources change, and
// takes them away.
//
// Everything of a Pod is below its own folder (see package poddir), so that a folder whose Pod is gone can be
// taken away by whoever finds it: mounts first, then files, and never a file behind a mount.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/node/object"
	"podium.dev/podium/internal/node/poddir"
	"podium.dev/podium/internal/paths"
)

// Config is what a Manager is made from.
type Config struct {
	NodeName string
	// Allocatable is what the node has for Pods: the default of resourceFieldRef limits and the bound of
	// memory-backed volumes.
	Allocatable func() v1.ResourceList
	// HostIPs are the node's addresses, the main one first.
	HostIPs func() []string
	Paths   paths.Paths
	Objects *object.Store
	// Client reads PersistentVolumeClaims and PersistentVolumes; nil on a node that runs by itself.
	Client kubernetes.Interface
	// Recorder is told of volumes that could not be kept up to date; nil for nobody.
	Recorder record.EventRecorder
	// Clock is the time; nil is the real one.
	Clock clock.WithTicker
}

// Manager has the volumes of all Pods of the node. It is safe for use from several goroutines; calls for one
// Pod run one after the other.
type Manager struct {
	cfg   Config
	queue workqueue.TypedRateLimitingInterface[types.UID]

	// mu guards pods and what is in the entries.
	mu   sync.Mutex
	pods map[types.UID]*entry
}

// entry is what is known of one Pod's volumes.
type entry struct {
	// work is held while the volumes are worked on, which may take long.
	work sync.Mutex
	// pod is the Pod as it was last seen; nil until its volumes are set up, and when they are gone.
	pod *v1.Pod
	// claims are where the volumes are whose place only their claim tells, by name.
	claims map[string]string
	// made are the volumes that are there, by name.
	made map[string]bool
}

// NewManager makes a Manager; nothing is touched before its first call.
func NewManager(cfg Config) *Manager {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Objects == nil {
		cfg.Objects = object.NewStore(object.Config{})
	}
	m := &Manager{cfg: cfg, pods: map[types.UID]*entry{}}
	m.queue = workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](500*time.Millisecond, 2*time.Minute),
		workqueue.TypedRateLimitingQueueConfig[types.UID]{Clock: cfg.Clock})
	m.cfg.Objects.OnChange(m.objectChanged)
	return m
}

// begin waits for its turn to work on a Pod's volumes; end gives the turn on. Of a Pod that is not known,
// begin makes an entry only when it may.
func (m *Manager) begin(uid types.UID, create bool) (e *entry, end func()) {
	for {
		m.mu.Lock()
		e := m.pods[uid]
		if e == nil && create {
			e = &entry{claims: map[string]string{}, made: map[string]bool{}}
			m.pods[uid] = e
		}
		m.mu.Unlock()
		if e == nil {
			return nil, func() {}
		}
		e.work.Lock()
		m.mu.Lock()
		current := m.pods[uid] == e
		m.mu.Unlock()
		if current {
			return e, e.work.Unlock
		}
		e.work.Unlock()
	}
}

// SetUp makes every volume that a container of the Pod uses. It is idempotent: what is there is brought up to
// date. The error says what FailedMount says; that of several volumes is an Aggregate.
func (m *Manager) SetUp(ctx context.Context, pod *v1.Pod) error {
	m.cfg.Objects.Register(pod)
	e, end := m.begin(pod.UID, true)
	defer end()
	if err := m.setUp(ctx, e, pod, func(*v1.Volume) bool { return true }); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e.pod = pod
	return nil
}

// setUp makes the wanted volumes side by side, and plans the next refresh.
func (m *Manager) setUp(ctx context.Context, e *entry, pod *v1.Pod, wanted func(*v1.Volume) bool) error {
	for _, dir := range []string{poddir.Dir(m.cfg.Paths, pod.UID), poddir.Volumes(m.cfg.Paths, pod.UID)} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("make the folder of pod %s: %w", pod.Name, err)
		}
	}
	used := usedVolumes(pod)
	results := make(chan made)
	running := 0
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if used[v.Name] && wanted(v) {
			running++
			go func() { results <- m.setUpOne(ctx, pod, v) }()
		}
	}
	var failed []error
	var due time.Time
	for range running {
		r := <-results
		if r.err != nil {
			failed = append(failed, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", r.name, r.err))
		} else {
			m.note(e, r)
		}
		if !r.due.IsZero() && (due.IsZero() || r.due.Before(due)) {
			due = r.due
		}
	}
	if !due.IsZero() {
		m.queue.AddAfter(pod.UID, due.Sub(m.cfg.Clock.Now()))
	}
	return utilerrors.NewAggregate(failed)
}

// note takes in a volume that was made.
func (m *Manager) note(e *entry, r made) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.made[r.name] = true
	if r.path != "" {
		e.claims[r.name] = r.path
	}
}

// made is how one volume went: where it is, if only its claim tells, and when it has to be made again.
type made struct {
	name string
	path string
	due  time.Time
	err  error
}

func (m *Manager) setUpOne(ctx context.Context, pod *v1.Pod, v *v1.Volume) made {
	r := made{name: v.Name}
	switch {
	case v.EmptyDir != nil:
		r.err = m.emptyDir(pod, v)
	case v.HostPath != nil:
		r.err = checkHostPath(v.HostPath.Path, v.HostPath.Type)
	case dynamic(v):
		r.due, r.err = m.project(ctx, pod, v)
	case v.PersistentVolumeClaim != nil:
		r.path, r.err = m.claim(ctx, pod, v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		r.path, r.err = m.claim(ctx, pod, pod.Name+"-"+v.Name)
	case v.Image != nil:
		// The runtime mounts images itself.
	default:
		r.err = fmt.Errorf("no volume plugin matched: volumes of the kind %s are not supported by this node", sourceKind(v))
	}
	return r
}

// dynamic reports volumes whose content follows objects, the Pod or time.
func dynamic(v *v1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// usedVolumes are the volumes that a container of the Pod mounts, has as a device or reads variables from.
func usedVolumes(pod *v1.Pod) map[string]bool {
	used := map[string]bool{}
	add := func(c *v1.Container) {
		for _, vm := range c.VolumeMounts {
			used[vm.Name] = true
		}
		for _, d := range c.VolumeDevices {
			used[d.Name] = true
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.FileKeyRef != nil {
				used[e.ValueFrom.FileKeyRef.VolumeName] = true
			}
		}
	}
	eachContainer(pod, add)
	return used
}

func eachContainer(pod *v1.Pod, f func(*v1.Container)) {
	for i := range pod.Spec.InitContainers {
		f(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		f(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.EphemeralContainers {
		f((*v1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
}

// HostPath answers where a volume of the Pod is on the host.
func (m *Manager) HostPath(pod *v1.Pod, volume string) (string, error) {
	v := volumeOf(pod, volume)
	if v == nil {
		return "", fmt.Errorf("pod %s/%s has no volume %q", pod.Namespace, pod.Name, volume)
	}
	if v.HostPath != nil {
		return v.HostPath.Path, nil
	}
	if plugin := pluginOf(v); plugin != "" {
		dir := poddir.Volume(m.cfg.Paths, pod.UID, plugin, volume)
		_, err := os.Stat(dir)
		return dir, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.pods[pod.UID]; e != nil && e.claims[volume] != "" {
		return e.claims[volume], nil
	}
	return "", fmt.Errorf("volume %q of pod %s/%s is not set up", volume, pod.Namespace, pod.Name)
}

func volumeOf(pod *v1.Pod, name string) *v1.Volume {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return &pod.Spec.Volumes[i]
		}
	}
	return nil
}

// TearDown unmounts and removes every volume of the Pod. It is idempotent and needs no SetUp before it.
func (m *Manager) TearDown(ctx context.Context, uid types.UID) error {
	return m.takeAway(uid, poddir.SubPaths(m.cfg.Paths, uid), poddir.Volumes(m.cfg.Paths, uid))
}

// Remove takes the Pod's whole folder away, with its hosts file and termination messages: for a Pod that is
// gone. It is idempotent and needs no TearDown before it.
func (m *Manager) Remove(ctx context.Context, uid types.UID) error {
	return m.takeAway(uid, poddir.Dir(m.cfg.Paths, uid))
}

func (m *Manager) takeAway(uid types.UID, dirs ...string) error {
	if uid == "" {
		return errors.New("remove the volumes of a pod: it has no UID")
	}
	_, end := m.begin(uid, true)
	defer end()
	m.queue.Forget(uid)
	var failed []error
	for _, dir := range dirs {
		if err := removeTree(dir); err != nil {
			failed = append(failed, fmt.Errorf("UnmountVolume.TearDown failed for pod %s: %w", uid, err))
		}
	}
	m.mu.Lock()
	delete(m.pods, uid)
	m.mu.Unlock()
	m.cfg.Objects.Unregister(uid)
	return errors.Join(failed...)
}

// Pods returns the Pods that have a folder: those whose volumes are there, and those that an earlier run of the node
// left.
func (m *Manager) Pods() (uids []types.UID, err error) {
	folders, err := os.ReadDir(m.cfg.Paths.Pods)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for the folders of pods: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range folders {
		if !f.IsDir() {
			continue
		}
		if of, raised := raisedFrom(f.Name()); raised && m.pods[types.UID(of)] != nil {
			continue // it is being removed
		}
		uids = append(uids, types.UID(f.Name()))
	}
	return uids, nil
}
