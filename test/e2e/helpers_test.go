package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"podium.dev/podium/internal/control"
	"podium.dev/podium/test/pace"
)

// patience is how long an eventual assertion waits before it fails. It is no measure of speed: `make bench` is.
var patience = pace.Of(90 * time.Second)

func controlStatus(ctx context.Context, socket string) (control.Status, error) {
	return control.NewClient(socket).Status(ctx)
}

// space is a namespace of one test on a node. When the test ends the namespace is deleted and what its Pods
// left behind is an error of the test.
type space struct {
	*testing.T
	node *node
	ns   string
	ctx  context.Context
	uids map[string]string // UID → name of every Pod seen
}

// newSpace makes a namespace on the shared node; the test runs in parallel with others.
func newSpace(t *testing.T) *space {
	t.Parallel()
	return newSpaceOn(t, shared)
}

func newSpaceOn(t *testing.T, n *node) *space {
	t.Helper()
	ns, err := n.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := &space{T: t, node: n, ns: ns.Name, ctx: t.Context(), uids: map[string]string{}}
	t.Cleanup(func() { s.close() })
	return s
}

// close deletes the namespace and looks for what is left of its Pods.
func (s *space) close() {
	s.Helper()
	s.ctx = context.Background() // the test's own context has ended
	pods, err := s.node.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{})
	if err != nil {
		s.Error(err)
		return
	}
	for _, p := range pods.Items {
		s.uids[string(p.UID)] = p.Name
		if s.Failed() {
			s.Logf("Pod %s: %s", p.Name, describe(&p))
		}
	}
	if s.Failed() {
		events, _ := s.try("get", "events")
		s.Log(events)
	}
	now := int64(1)
	if err := s.node.client.CoreV1().Pods(s.ns).DeleteCollection(s.ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}); err != nil {
		s.Error(err)
	}
	if err := s.node.client.CoreV1().Namespaces().Delete(s.ctx, s.ns, metav1.DeleteOptions{}); err != nil {
		s.Error(err)
	}
	s.eventually("namespace "+s.ns+" is gone", func() error {
		_, err := s.node.client.CoreV1().Namespaces().Get(s.ctx, s.ns, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there (%v)", err)
	})
	s.eventually("nothing is left of the Pods", func() error {
		for uid, name := range s.uids {
			if left := s.leftOf(uid); len(left) > 0 {
				return fmt.Errorf("Pod %s left %s", name, strings.Join(left, ", "))
			}
		}
		return nil
	})
}

// leftOf answers with what is on the machine of the Pod with this UID.
func (s *space) leftOf(uid string) []string {
	var left []string
	mounts, _ := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return !strings.Contains(i.Mountpoint, uid), false })
	for _, m := range mounts {
		left = append(left, "mount "+m.Mountpoint)
	}
	for _, pattern := range []string{
		filepath.Join(s.node.paths.Kubelet, "pods", uid), filepath.Join(s.node.paths.PodLogs, "*_"+uid),
		"/sys/fs/cgroup/*/" + s.node.paths.ID + "/kubepods/pod" + uid, "/sys/fs/cgroup/*/" + s.node.paths.ID + "/kubepods/*/pod" + uid,
		"/sys/fs/cgroup/" + s.node.paths.ID + "/kubepods/pod" + uid, "/sys/fs/cgroup/" + s.node.paths.ID + "/kubepods/*/pod" + uid,
	} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	return left
}

// create makes a Pod through the API.
func (s *space) create(pod *corev1.Pod) *corev1.Pod {
	s.Helper()
	made, err := s.node.client.CoreV1().Pods(s.ns).Create(s.ctx, pod, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	s.uids[string(made.UID)] = made.Name
	return made
}

// shellPod is a Pod whose containers run these scripts.
func shellPod(name string, scripts ...string) *corev1.Pod {
	grace := int64(2)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace}}
	for i, script := range scripts {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: fmt.Sprintf("c%d", i), Image: shellImage, Command: []string{"sh", "-c", script},
		})
	}
	return p
}

// await waits until the Pod is as the condition wants it, and answers with it. It is woken by the watch.
func (s *space) await(name, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	pods := s.node.client.CoreV1().Pods(s.ns)
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	var last *corev1.Pod
	_, err := watchtools.UntilWithSync(ctx, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return pods.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return pods.Watch(ctx, o)
		},
	}, &corev1.Pod{}, nil, func(e watch.Event) (bool, error) {
		pod, isPod := e.Object.(*corev1.Pod)
		if !isPod || e.Type == watch.Deleted {
			return false, nil
		}
		last = pod
		s.uids[string(pod.UID)] = pod.Name
		return ok(pod), nil
	})
	if err != nil {
		s.Fatalf("Pod %s is not %s: %v\n%s", name, what, err, describe(last))
	}
	return last
}

// awaitRunning waits until every container of the Pod is ready.
func (s *space) awaitRunning(name string) *corev1.Pod {
	s.Helper()
	return s.await(name, "ready", isReady)
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// awaitPhase waits for a phase.
func (s *space) awaitPhase(name string, phase corev1.PodPhase) *corev1.Pod {
	s.Helper()
	return s.await(name, string(phase), func(p *corev1.Pod) bool { return p.Status.Phase == phase })
}

// awaitGone waits until the Pod is no more.
func (s *space) awaitGone(name string) {
	s.Helper()
	s.eventually("Pod "+name+" is gone", func() error {
		p, err := s.node.client.CoreV1().Pods(s.ns).Get(s.ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.New(describe(p))
	})
}

// eventually asks again until there is no error.
func (s *space) eventually(what string, check func() error) {
	s.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.Errorf("never came true: %s: %v", what, err)
			return
		}
		select {
		case <-s.ctx.Done():
			s.Errorf("%s: %v (%v)", what, err, s.ctx.Err())
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// describe says in a few words what state a Pod is in.
func describe(p *corev1.Pod) string {
	if p == nil {
		return "no such Pod was seen"
	}
	text := fmt.Sprintf("phase %s reason %q message %q deleting %v", p.Status.Phase, p.Status.Reason, p.Status.Message, p.DeletionTimestamp)
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range list {
			text += fmt.Sprintf("; %s restarts %d ready %v", c.Name, c.RestartCount, c.Ready)
			switch {
			case c.State.Waiting != nil:
				text += fmt.Sprintf(" waiting %s %q", c.State.Waiting.Reason, c.State.Waiting.Message)
			case c.State.Terminated != nil:
				text += fmt.Sprintf(" terminated %d %s %q", c.State.Terminated.ExitCode, c.State.Terminated.Reason, c.State.Terminated.Message)
			case c.State.Running != nil:
				text += " running"
			}
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			text += fmt.Sprintf("; %s=%s %s %q", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return text
}

func mebibytes(n int64) resource.Quantity { return *resource.NewQuantity(n<<20, resource.BinarySI) }
