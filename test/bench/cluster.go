package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"
)

// cluster is a cluster as a client sees it. Pods are created in a namespace of its own, and a single watch
// observes them.
type cluster struct {
	kubeconfig string
	pods       interface {
		Create(context.Context, *corev1.Pod, metav1.CreateOptions) (*corev1.Pod, error)
		Delete(context.Context, string, metav1.DeleteOptions) error
		DeleteCollection(context.Context, metav1.DeleteOptions, metav1.ListOptions) error
	}
	client *kubernetes.Clientset
	ns     string
	image  string
	watch  watch.Interface

	mu   sync.Mutex
	seen map[string]*state
	wake chan struct{}
}

// state is when a Pod was first seen in each state.
type state struct {
	running, restarted, gone time.Time
	// ready is whether the Pod is ready, turned when that last changed.
	ready  bool
	turned time.Time
}

func connect(ctx context.Context, kubeconfig, image string) (*cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	ns, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"}}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	c := &cluster{kubeconfig: kubeconfig, client: client, ns: ns.Name, image: image, pods: client.CoreV1().Pods(ns.Name), seen: map[string]*state{}, wake: make(chan struct{}, 1)}
	// The API server drops a watcher that falls behind; this one resumes where it was.
	watcher := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		return client.CoreV1().Pods(ns.Name).Watch(ctx, o)
	}}
	if c.watch, err = watchtools.NewRetryWatcherWithContext(ctx, ns.ResourceVersion, watcher); err != nil {
		return nil, err
	}
	go c.follow()
	// Pods are rejected until the namespace has its service account.
	for {
		if _, err := client.CoreV1().ServiceAccounts(ns.Name).Get(ctx, "default", metav1.GetOptions{}); err == nil {
			return c, nil
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (c *cluster) close() {
	c.watch.Stop()
	_ = c.client.CoreV1().Namespaces().Delete(context.Background(), c.ns, metav1.DeleteOptions{})
}

func (c *cluster) follow() {
	for e := range c.watch.ResultChan() {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			continue
		}
		now := time.Now()
		c.mu.Lock()
		s := c.seen[pod.Name]
		if s == nil {
			s = &state{}
			c.seen[pod.Name] = s
		}
		if e.Type == watch.Deleted {
			s.gone = now
		}
		if ready := isReady(pod); ready != s.ready {
			s.ready, s.turned = ready, now
		}
		if pod.Status.Phase == corev1.PodRunning && len(pod.Status.ContainerStatuses) == 1 {
			st := pod.Status.ContainerStatuses[0]
			if st.State.Running != nil && s.running.IsZero() {
				s.running = now
			}
			if st.State.Running != nil && st.RestartCount > 0 && s.restarted.IsZero() {
				s.restarted = now
			}
		}
		c.mu.Unlock()
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// until waits until a time of a Pod is known.
func (c *cluster) until(ctx context.Context, name string, when func(*state) time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		c.mu.Lock()
		s := c.seen[name]
		c.mu.Unlock()
		if s != nil {
			c.mu.Lock()
			at := when(s)
			c.mu.Unlock()
			if !at.IsZero() {
				return at, nil
			}
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("Pod %s: %w", name, ctx.Err())
		case <-c.wake:
		case <-time.After(20 * time.Millisecond): // another waiter may have been woken instead
		}
	}
}

func running(s *state) time.Time   { return s.running }
func restarted(s *state) time.Time { return s.restarted }
func gone(s *state) time.Time      { return s.gone }

// create creates a Pod that runs a script, after applying the changes, and returns the time just before.
func (c *cluster) create(ctx context.Context, name, script string, change ...func(*corev1.Pod)) (time.Time, error) {
	grace := int64(10)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			Containers:                    []corev1.Container{{Name: "c", Image: c.image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"sh", "-c", script}}},
		},
	}
	for _, f := range change {
		f(pod)
	}
	at := time.Now()
	_, err := c.pods.Create(ctx, pod, metav1.CreateOptions{})
	return at, err
}

// remove deletes a Pod without a grace period and waits until it is gone.
func (c *cluster) remove(ctx context.Context, name string) error {
	zero := int64(0)
	if err := c.pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		return err
	}
	_, err := c.until(ctx, name, gone)
	return err
}

// stays is a script that runs until SIGTERM and then exits at once.
const stays = "trap 'exit 0' TERM; sleep 100000 & wait"

// burst creates Pods concurrently and returns the time until the last one runs.
func (c *cluster) burst(ctx context.Context, prefix string, n int, change ...func(*corev1.Pod)) (time.Duration, error) {
	began := time.Now()
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := c.create(ctx, fmt.Sprintf("%s-%d", prefix, i), stays, change...)
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			return 0, err
		}
	}
	var last time.Time
	for i := range n {
		at, err := c.until(ctx, fmt.Sprintf("%s-%d", prefix, i), running)
		if err != nil {
			return 0, err
		}
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(began), nil
}

// measureCluster takes every figure that a client can observe.
func measureCluster(ctx context.Context, o options, kubeconfig, image string, r *results) error {
	c, err := connect(ctx, kubeconfig, image)
	if err != nil {
		return err
	}
	defer c.close()
	var create, remove, exit []time.Duration
	for i := range o.rounds {
		name := fmt.Sprintf("one-%d", i)
		began, err := c.create(ctx, name, stays)
		if err != nil {
			return err
		}
		at, err := c.until(ctx, name, running)
		if err != nil {
			return err
		}
		create = append(create, at.Sub(began))
		if err := wait(ctx, 50*time.Millisecond); err != nil { // the shell has set its trap by then
			return err
		}
		began = time.Now()
		if err := c.pods.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		if at, err = c.until(ctx, name, gone); err != nil {
			return err
		}
		remove = append(remove, at.Sub(began))
	}
	for i := range o.rounds {
		took, err := c.restart(ctx, fmt.Sprintf("exit-%d", i))
		if err != nil {
			return err
		}
		exit = append(exit, took)
	}
	r.times("create → Running, image present, one at a time", create)
	r.times("container exit → running again (first restart)", exit)
	r.times("delete → gone, app ends on SIGTERM", remove)
	if err := measureReadiness(ctx, o, c, r); err != nil {
		return err
	}
	if err := measureBursts(ctx, o, c, r); err != nil {
		return err
	}
	return measureKubectl(ctx, o, c, r)
}

// restart runs a Pod whose container exits, and returns the time from its last output, by the log's clock, to
// the next run as seen by the watch.
func (c *cluster) restart(ctx context.Context, name string) (time.Duration, error) {
	if _, err := c.create(ctx, name, "sleep 0.3; echo bye; exit 1"); err != nil {
		return 0, err
	}
	again, err := c.until(ctx, name, restarted)
	if err != nil {
		return 0, err
	}
	text, err := c.client.CoreV1().Pods(c.ns).GetLogs(name, &corev1.PodLogOptions{Previous: true, Timestamps: true}).DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	stamp, _, _ := strings.Cut(string(text), " ")
	ended, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return 0, fmt.Errorf("log of Pod %s: %w", name, err)
	}
	return again.Sub(ended), c.remove(ctx, name)
}

// burstRounds is how often each burst is measured.
const burstRounds = 3

func measureBursts(ctx context.Context, o options, c *cluster, r *results) error {
	for _, n := range o.burst {
		var up, down []time.Duration
		for round := range burstRounds {
			prefix := fmt.Sprintf("burst%d-%d", n, round)
			took, err := c.burst(ctx, prefix, n)
			if err != nil {
				return err
			}
			up = append(up, took)
			if err := wait(ctx, time.Second); err != nil { // the shells have set their traps by then
				return err
			}
			if took, err = c.clear(ctx, prefix, n); err != nil {
				return err
			}
			down = append(down, took)
		}
		r.times(fmt.Sprintf("%d Pods at once → all Running", n), up)
		r.times(fmt.Sprintf("%d Pods deleted → all gone", n), down)
	}
	return nil
}

// clear deletes the Pods of a burst and returns the time until the last one is gone.
func (c *cluster) clear(ctx context.Context, prefix string, n int) (time.Duration, error) {
	began := time.Now()
	if err := c.pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return 0, err
	}
	var last time.Time
	for i := range n {
		at, err := c.until(ctx, fmt.Sprintf("%s-%d", prefix, i), gone)
		if err != nil {
			return 0, err
		}
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(began), nil
}

// measureKubectl takes the round trips of kubectl's logs and exec.
func measureKubectl(ctx context.Context, o options, c *cluster, r *results) error {
	if _, err := c.create(ctx, "talk", "echo hello; "+stays); err != nil {
		return err
	}
	if _, err := c.until(ctx, "talk", running); err != nil {
		return err
	}
	for what, args := range map[string][]string{"logs": {"logs", "talk"}, "exec": {"exec", "talk", "--", "true"}} {
		var all []time.Duration
		for range o.rounds {
			began := time.Now()
			cmd := exec.CommandContext(ctx, o.podium, append([]string{"kubectl", "--kubeconfig", c.kubeconfig, "-n", c.ns}, args...)...)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("kubectl %s: %w\n%s", what, err, out)
			}
			all = append(all, time.Since(began))
		}
		r.times("`kubectl "+what+"` round trip", all)
	}
	return nil
}
