package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"podium.dev/podium/internal/scheduler"
	"podium.dev/podium/internal/scheduler/apitest"
	"podium.dev/podium/internal/scheduler/election"
)

// wire is a scheduler's way to the API server, whose watches can be cut, and which can be cut as a whole.
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

// cut ends all watches; for good, nothing passes any more.
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

// auditor follows the Pods in the order in which the store saw them change, and holds every placement against
// what the node has.
type auditor struct {
	*testing.T
	pods     map[types.UID]*corev1.Pod
	bindings int
}

const nodeCPU = 1000

func (a *auditor) follow(events <-chan watch.Event, done chan<- struct{}) {
	defer close(done)
	for e := range events {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			continue
		}
		if e.Type == watch.Deleted {
			delete(a.pods, pod.UID)
			continue
		}
		before := a.pods[pod.UID]
		a.pods[pod.UID] = pod
		if pod.Spec.NodeName != "" && (before == nil || before.Spec.NodeName == "") {
			a.bindings++
			a.check(pod)
		}
	}
}

func (a *auditor) check(pod *corev1.Pod) {
	var cpu int64
	ports := map[int32]string{}
	for _, p := range a.pods {
		if p.Spec.NodeName != pod.Spec.NodeName {
			continue
		}
		cpu += p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
		for _, port := range p.Spec.Containers[0].Ports {
			if other := ports[port.HostPort]; other != "" {
				a.Errorf("%s and %s both have port %d of node %s", p.Name, other, port.HostPort, pod.Spec.NodeName)
			}
			ports[port.HostPort] = p.Name
		}
	}
	if cpu > nodeCPU {
		a.Errorf("after %s node %s has %dm of %dm given away", pod.Name, pod.Spec.NodeName, cpu, nodeCPU)
	}
}

// TestManySchedulersNeverOvercommit has eight schedulers take turns while they are restarted, cut off from
// their watches and cut off for good, and Pods come and go.
func TestManySchedulersNeverOvercommit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w := &world{T: t, client: connect(t), ctx: t.Context()}
	w.makeNamespace()
	for i := range 4 {
		w.node(fmt.Sprint("n", i), "1", "1Gi")
	}
	audit := &auditor{T: t, pods: map[types.UID]*corev1.Pod{}}
	watching, stopWatching := context.WithCancel(t.Context())
	events, err := w.client.CoreV1().Pods(w.ns).Watch(watching, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	audited := make(chan struct{})
	go audit.follow(events.ResultChan(), audited)

	var all []*instance
	for i := range 8 {
		all = append(all, startInstance(t, fmt.Sprint("first-", i)))
	}
	pods := 0
	tick := time.NewTicker(8 * time.Millisecond)
	defer tick.Stop()
	zero := int64(0)
	for step := range 400 {
		<-tick.C
		switch {
		case step%3 != 2:
			w.pod(fmt.Sprint("p", pods), func(p *corev1.Pod) {
				requests(fmt.Sprintf("%dm", 20+r.IntN(150)), "1Mi")(p)
				if r.IntN(5) == 0 {
					p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: int32(8000 + r.IntN(3))}}
				}
			})
			pods++
		default:
			name := fmt.Sprint("p", r.IntN(pods))
			_ = w.client.CoreV1().Pods(w.ns).Delete(w.ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
		}
		if step%25 != 24 {
			continue
		}
		at := r.IntN(len(all))
		switch r.IntN(3) {
		case 0:
			all[at].wire.cut(false)
		case 1: // ends in good order
			all[at].stop(t)
			all[at] = startInstance(t, fmt.Sprint("again-", step))
		case 2: // as if it had crashed
			all[at].wire.cut(true)
			old := all[at]
			t.Cleanup(func() { old.stop(t) })
			all[at] = startInstance(t, fmt.Sprint("new-", step))
		}
	}
	// Half of the Pods go, and the others find their places in the end.
	for i := range pods {
		if i%2 == 0 {
			_ = w.client.CoreV1().Pods(w.ns).Delete(w.ctx, fmt.Sprint("p", i), metav1.DeleteOptions{GracePeriodSeconds: &zero})
		}
	}
	w.eventually(2*time.Minute, func() error { return w.nothingFits() })
	for _, i := range all {
		i.stop(t)
	}
	stopWatching()
	<-audited
	t.Logf("%d pods, %d bindings", pods, audit.bindings)
}

// nothingFits answers with a Pod that waits although a node has room for it.
func (w *world) nothingFits() error {
	list, err := w.client.CoreV1().Pods(w.ns).List(w.ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	cpu, ports := map[string]int64{}, map[string][]int32{}
	portsOf := func(p *corev1.Pod) (out []int32) {
		for _, port := range p.Spec.Containers[0].Ports {
			out = append(out, port.HostPort)
		}
		return out
	}
	for i := range 4 {
		cpu[fmt.Sprintf("%s-n%d", w.ns, i)] = 0
	}
	for _, p := range list.Items {
		if p.Spec.NodeName != "" {
			cpu[p.Spec.NodeName] += p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
			ports[p.Spec.NodeName] = append(ports[p.Spec.NodeName], portsOf(&p)...)
		}
	}
	for _, p := range list.Items {
		for node, used := range cpu {
			taken := slices.ContainsFunc(portsOf(&p), func(port int32) bool { return slices.Contains(ports[node], port) })
			if p.Spec.NodeName == "" && !taken && used+p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue() <= nodeCPU {
				return fmt.Errorf("%s waits although node %s has room", p.Name, node)
			}
		}
	}
	return nil
}
