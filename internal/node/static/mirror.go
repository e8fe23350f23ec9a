package static

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// apiTimeout bounds one call of the API server; endCheck is how often at the latest it is looked whether a
// Pod has ended whose mirror is to go.
const (
	apiTimeout = 10 * time.Second
	endCheck   = 5 * time.Second
)

// MirrorConfig is what Mirrors are made from.
type MirrorConfig struct {
	Client   kubernetes.Interface
	NodeName string
	// NodeUID is the Node object's, which owns the mirrors; false while it is not known.
	NodeUID func() (types.UID, bool)
	// Sources are those that must have spoken before a mirror counts as one without a Pod.
	Sources []string
	// Running reports whether a static Pod of that name still runs, or ends: its mirror stays till then.
	Running func(namespace, name string) bool
	// Clock is the time; nil is the real one.
	Clock clock.WithTicker
}

// Mirrors keeps an object in the API server for each static Pod, for kubectl to show. It is what it is told to
// mirror and what it is told of the API, and works towards the one being the other.
type Mirrors struct {
	config MirrorConfig
	queue  workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu      sync.Mutex
	spoken  map[string]bool
	static  map[types.NamespacedName]*v1.Pod
	mirrors map[types.NamespacedName]*v1.Pod
	// of are the names that each source has.
	of map[string]map[types.NamespacedName]*v1.Pod
}

// NewMirrors makes Mirrors that do nothing before Run.
func NewMirrors(c MirrorConfig) *Mirrors {
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	return &Mirrors{
		config: c, spoken: map[string]bool{}, of: map[string]map[types.NamespacedName]*v1.Pod{},
		static: map[types.NamespacedName]*v1.Pod{}, mirrors: map[types.NamespacedName]*v1.Pod{},
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](100*time.Millisecond, 10*time.Second),
			workqueue.TypedRateLimitingQueueConfig[types.NamespacedName]{Clock: c.Clock}),
	}
}

func nameOf(pod *v1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}

// SetPods says which Pods a source has.
func (m *Mirrors) SetPods(source string, pods []*v1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	had := m.of[source]
	now := map[types.NamespacedName]*v1.Pod{}
	for _, p := range pods {
		now[nameOf(p)] = p
	}
	m.of[source] = now
	for name := range had {
		delete(m.static, name)
		m.queue.Add(name)
	}
	for _, list := range m.of {
		for name, p := range list {
			m.static[name] = p
		}
	}
	for name := range now {
		m.queue.Add(name)
	}
	if !m.spoken[source] {
		m.spoken[source] = true
		for name := range m.mirrors {
			m.queue.Add(name)
		}
	}
}

// Observe takes in a mirror as the API server has it; any other Pod is passed over.
func (m *Mirrors) Observe(pod *v1.Pod) {
	if _, ok := pod.Annotations[v1.MirrorPodAnnotationKey]; !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mirrors[nameOf(pod)] = pod
	m.queue.Add(nameOf(pod))
}

// Gone takes in that the API server has a Pod no more.
func (m *Mirrors) Gone(pod *v1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if had := m.mirrors[nameOf(pod)]; had != nil && had.UID == pod.UID {
		delete(m.mirrors, nameOf(pod))
		m.queue.Add(nameOf(pod))
	}
}

// Ended takes in that a static Pod has ended: its mirror may go.
func (m *Mirrors) Ended(namespace, name string) {
	m.queue.Add(types.NamespacedName{Namespace: namespace, Name: name})
}

// Run works until ctx ends.
func (m *Mirrors) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, m.queue.ShutDown)
	defer stop()
	for {
		name, shutdown := m.queue.Get()
		if shutdown {
			return
		}
		err := m.reconcile(ctx, name)
		switch {
		case err == nil:
			m.queue.Forget(name)
		case ctx.Err() == nil:
			klog.V(2).InfoS("Mirror of a static pod is not as it should be yet", "pod", name, "err", err)
			m.queue.AddRateLimited(name)
		}
		m.queue.Done(name)
	}
}

// reconcile makes the mirror of a name what it should be.
func (m *Mirrors) reconcile(ctx context.Context, name types.NamespacedName) error {
	m.mu.Lock()
	static, mirror := m.static[name], m.mirrors[name]
	known := len(m.spoken) >= len(m.config.Sources)
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	switch {
	case static != nil && mirror == nil:
		return m.create(ctx, static)
	case static != nil && (!mirrors(mirror, static) || mirror.DeletionTimestamp != nil):
		return m.remove(ctx, mirror)
	case static == nil && mirror != nil && known:
		if m.config.Running != nil && m.config.Running(name.Namespace, name.Name) {
			m.queue.AddAfter(name, endCheck)
			return nil
		}
		return m.remove(ctx, mirror)
	}
	return nil
}

// mirrors reports whether an object of the API is the mirror of just that static Pod.
func mirrors(mirror, static *v1.Pod) bool {
	return mirror.Annotations[v1.MirrorPodAnnotationKey] == static.Annotations[annotationHash]
}

// create makes the mirror. An object of that name that is another's stays; the error says so.
func (m *Mirrors) create(ctx context.Context, static *v1.Pod) error {
	uid, ok := m.config.NodeUID()
	if !ok {
		return fmt.Errorf("mirror pod %s/%s: the node %s is not registered yet", static.Namespace, static.Name, m.config.NodeName)
	}
	controller := true
	mirror := static.DeepCopy()
	mirror.Annotations[v1.MirrorPodAnnotationKey] = static.Annotations[annotationHash]
	withoutReferences(mirror)
	mirror.UID, mirror.ResourceVersion, mirror.Status = "", "", v1.PodStatus{}
	mirror.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: m.config.NodeName, UID: uid, Controller: &controller}}
	made, err := m.config.Client.CoreV1().Pods(mirror.Namespace).Create(ctx, mirror, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		made, err = m.config.Client.CoreV1().Pods(mirror.Namespace).Get(ctx, mirror.Name, metav1.GetOptions{})
		if err == nil && !mirrors(made, static) {
			if _, ok := made.Annotations[v1.MirrorPodAnnotationKey]; !ok {
				return fmt.Errorf("mirror pod %s/%s: a pod of that name exists", static.Namespace, static.Name)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("create mirror pod %s/%s: %w", static.Namespace, static.Name, err)
	}
	m.Observe(made)
	return nil
}

// remove deletes a mirror at once: nothing of it runs, but what it stands for.
func (m *Mirrors) remove(ctx context.Context, mirror *v1.Pod) error {
	now := int64(0)
	err := m.config.Client.CoreV1().Pods(mirror.Namespace).Delete(ctx, mirror.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &mirror.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete mirror pod %s/%s: %w", mirror.Namespace, mirror.Name, err)
	}
	m.Gone(mirror)
	return nil
}
