package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"podium.dev/podium/internal/scheduler"
	"podium.dev/podium/internal/scheduler/apitest"
	"podium.dev/podium/internal/scheduler/election"
	"podium.dev/podium/internal/scheduler/oracletest"
)

// wire is a scheduler's connection to the API server. Its watches can be cut, and it can be cut altogether.
type wire struct {
	next http.RoundTripper

	mu   sync.Mutex
	dead bool
	open map[*wireBody]bool
}

type wireBody struct {
	io.ReadCloser
	w *wire
}

func (b *wireBody) Close() error {
	b.w.mu.Lock()
	delete(b.w.open, b)
	b.w.mu.Unlock()
	return b.ReadCloser.Close()
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	dead := w.dead
	w.mu.Unlock()
	if dead {
		return nil, errors.New("the wire is cut")
	}
	response, err := w.next.RoundTrip(r)
	if err != nil || r.URL.Query().Get("watch") == "" {
		return response, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	body := &wireBody{response.Body, w}
	w.open[body] = true
	response.Body = body
	return response, nil
}

// cut ends all watches. With forGood, nothing passes any more.
func (w *wire) cut(forGood bool) {
	w.mu.Lock()
	w.dead = w.dead || forGood
	bodies := make([]*wireBody, 0, len(w.open))
	for b := range w.open {
		bodies = append(bodies, b)
	}
	w.mu.Unlock()
	for _, b := range bodies {
		_ = b.Close()
	}
}

// instance is one of several schedulers.
type instance struct {
	wire   *wire
	cancel context.CancelFunc
	done   chan error
}

func startInstance(t *testing.T, name string) *instance {
	t.Helper()
	i := &instance{done: make(chan error, 1)}
	cfg := rest.CopyConfig(apitest.Config(t))
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		i.wire = &wire{next: next, open: map[*wireBody]bool{}}
		return i.wire
	})
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, i.cancel = context.WithCancel(context.Background())
	s := scheduler.New(client, scheduler.Options{
		InitialBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
		Election: &election.Config{
			Identity: name, Namespace: "default", Name: "chaos",
			LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 50 * time.Millisecond,
		},
	})
	go func() { i.done <- s.Run(ctx) }()
	return i
}

func (i *instance) stop(t *testing.T) {
	i.cancel()
	if err := <-i.done; err != nil {
		t.Error(err)
	}
}

// auditor follows the Pods in the order in which the store saw them change, and has the oracle judge every
// placement at the moment it was made.
type auditor struct {
	*testing.T
	oracletest.Oracle

	mu       sync.Mutex
	bindings int
}

func (a *auditor) follow(events <-chan watch.Event, done chan<- struct{}) {
	defer close(done)
	for e := range events {
		if pod, ok := e.Object.(*corev1.Pod); ok {
			a.take(e.Type, pod)
		}
	}
}

func (a *auditor) take(what watch.EventType, pod *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := string(pod.UID)
	_, placed := a.Pods[key]
	switch {
	case what == watch.Deleted:
		delete(a.Pods, key)
	case pod.Spec.NodeName != "" && !placed:
		a.bindings++
		if rule := a.Broken(pod, a.Nodes[pod.Spec.NodeName]); rule != "" {
			a.Errorf("Pod %s breaks the rule of %s on node %s", pod.Name, rule, pod.Spec.NodeName)
		}
		a.Pods[key] = pod
	case placed:
		a.Pods[key] = pod
	}
}

// addNode creates a random node, which the oracle knows before the first Pod can be placed on it.
func (w *world) addNode(r oracletest.Random, name string, audit *auditor) {
	w.Helper()
	n := r.Node(name)
	audit.mu.Lock()
	audit.Nodes[name] = n.DeepCopy()
	audit.mu.Unlock()
	n.Labels["world"], n.Status.Capacity = w.ns, n.Status.Allocatable
	taints := n.Spec.Taints
	made, err := w.client.CoreV1().Nodes().Create(w.ctx, n, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	made.Spec.Taints = taints // admission adds one
	if _, err := w.client.CoreV1().Nodes().Update(w.ctx, made, metav1.UpdateOptions{}); err != nil {
		w.Fatal(err)
	}
}

// randomWorld creates the namespaces and classes that random Pods use, and removes them when the test ends.
func randomWorld(t *testing.T) *world {
	w := &world{T: t, client: connect(t), ctx: t.Context()}
	w.makeNamespace()
	ctx, zero := context.Background(), int64(0)
	for ns, team := range map[string]string{"s": "red", "t": "blue"} {
		if _, err := w.client.CoreV1().Namespaces().Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns, Labels: map[string]string{"team": team}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}} // its controller does not run here
		if _, err := w.client.CoreV1().ServiceAccounts(ns).Create(w.ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = w.client.CoreV1().Pods(ns).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{})
			_ = w.client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{})
		})
	}
	for i := range 3 {
		name := fmt.Sprint("p", i)
		if _, err := w.client.SchedulingV1().PriorityClasses().Create(w.ctx, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: int32(i)}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.client.SchedulingV1().PriorityClasses().Delete(ctx, name, metav1.DeleteOptions{}) })
	}
	return w
}

// randomPod creates a random Pod and returns it.
func (w *world) randomPod(r oracletest.Random, name string) *corev1.Pod {
	w.Helper()
	p, zero := r.Pod(name), int64(0)
	p.UID, p.Spec.TerminationGracePeriodSeconds = "", &zero
	p.Spec.PriorityClassName, p.Spec.Priority = fmt.Sprint("p", *p.Spec.Priority), nil
	p.Spec.Overhead = nil // comes from runtime classes
	made, err := w.client.CoreV1().Pods(p.Namespace).Create(w.ctx, p, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return made
}

// chaosSeed names the environment variable with the seed of a run to repeat.
const chaosSeed = "PODIUM_TEST_SEED"

// TestManySchedulersNeverMisplace has eight schedulers take turns in a random cluster. They are restarted, cut
// off from their watches and cut off for good, while Pods and nodes come and Pods go. The oracle judges every
// placement; at the end no Pod may be waiting that it finds a node for.
func TestManySchedulersNeverMisplace(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv(chaosSeed); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d; set %s to repeat it", seed, chaosSeed)
	r := oracletest.Random{Rand: rand.New(rand.NewPCG(seed, 0))}
	w := randomWorld(t)
	audit := &auditor{T: t, Oracle: oracletest.Oracle{
		Nodes: map[string]*corev1.Node{}, Pods: map[string]*corev1.Pod{}, Namespaces: map[string]labels.Set{"s": {"team": "red"}, "t": {"team": "blue"}},
	}}
	for i := range 5 {
		w.addNode(r, fmt.Sprint("n", i), audit)
	}
	watching, stopWatching := context.WithCancel(t.Context())
	events, err := w.client.CoreV1().Pods(metav1.NamespaceAll).Watch(watching, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	audited := make(chan struct{})
	go audit.follow(events.ResultChan(), audited)

	var all []*instance
	for i := range 8 {
		all = append(all, startInstance(t, fmt.Sprint("first-", i)))
	}
	var pods []*corev1.Pod
	remove := func(p *corev1.Pod) {
		zero := int64(0)
		_ = w.client.CoreV1().Pods(p.Namespace).Delete(w.ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
	}
	tick := time.NewTicker(8 * time.Millisecond)
	defer tick.Stop()
	for step := range 400 {
		<-tick.C
		if step%3 != 2 {
			pods = append(pods, w.randomPod(r, fmt.Sprint("p", len(pods))))
		} else {
			remove(pods[r.IntN(len(pods))])
		}
		if step%100 == 99 {
			w.addNode(r, fmt.Sprint("late", step), audit)
		}
		if step%25 == 24 {
			all = trouble(t, r, all, step)
		}
	}
	for i, p := range pods { // half of the Pods go, and the others must find a node in the end
		if i%2 == 0 {
			remove(p)
		}
	}
	w.eventually(2*time.Minute, func() error { return w.allPlaced(audit) })
	for _, i := range all {
		i.stop(t)
	}
	stopWatching()
	<-audited
	t.Logf("%d pods, %d bindings, %d left", len(pods), audit.bindings, len(audit.Pods))
}

// trouble makes one of the schedulers lose its watches, stop in good order, or lose its connection as if it had
// crashed.
func trouble(t *testing.T, r oracletest.Random, all []*instance, step int) []*instance {
	at := r.IntN(len(all))
	switch r.IntN(3) {
	case 0:
		all[at].wire.cut(false)
	case 1:
		all[at].stop(t)
		all[at] = startInstance(t, fmt.Sprint("again-", step))
	case 2:
		all[at].wire.cut(true)
		old := all[at]
		t.Cleanup(func() { old.stop(t) })
		all[at] = startInstance(t, fmt.Sprint("new-", step))
	}
	return all
}

// allPlaced returns an error that names a Pod that waits although the oracle finds a node that it fits.
func (w *world) allPlaced(audit *auditor) error {
	now := oracletest.Oracle{Nodes: audit.Nodes, Pods: map[string]*corev1.Pod{}, Namespaces: audit.Namespaces}
	var waiting []*corev1.Pod
	for _, ns := range []string{"s", "t"} {
		list, err := w.client.CoreV1().Pods(ns).List(w.ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if p := &list.Items[i]; p.Spec.NodeName != "" {
				now.Pods[string(p.UID)] = p
			} else {
				waiting = append(waiting, p)
			}
		}
	}
	for _, p := range waiting {
		for name, node := range now.Nodes {
			if now.Fits(p, node) {
				return fmt.Errorf("Pod %s waits although it fits node %s: %v", p.Name, name, p.Status.Conditions)
			}
		}
	}
	return nil
}
