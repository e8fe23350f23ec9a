package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"podium.dev/podium/internal/scheduler/apitest"
)

// atOnce is the number of concurrent requests of the bench itself.
const atOnce = 16

// cluster is a set of hollow nodes behind a real API server and store in this process.
type cluster struct {
	client kubernetes.Interface
	server *apitest.Server
	nodes  int
}

// measureThrough measures through the API. The cluster grows from size to size.
func measureThrough(ctx context.Context, o options, r *results) (err error) {
	server, err := apitest.Start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	client, err := kubernetes.NewForConfig(server.Config)
	if err != nil {
		return err
	}
	c := &cluster{client: client, server: server}
	if err := c.furnish(ctx); err != nil {
		return err
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	for _, size := range o.sizes {
		if err := c.grow(ctx, size); err != nil {
			return err
		}
		if err := c.measure(ctx, o, r); err != nil {
			return fmt.Errorf("%d nodes: %w", size, err)
		}
		if size == 1000 || size == o.sizes[len(o.sizes)-1] && r.room == nil {
			if r.room, err = c.measureRoom(ctx); err != nil {
				return fmt.Errorf("room: %w", err)
			}
		}
	}
	if o.memory > 0 {
		return c.measureMemory(ctx, o, r)
	}
	return nil
}

// furnish creates what Pods need besides nodes.
func (c *cluster) furnish(ctx context.Context) error {
	for _, name := range []string{before, measured} {
		if _, err := c.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			return err
		}
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}} // its controller does not run here
		if _, err := c.client.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	_, err := c.client.SchedulingV1().PriorityClasses().Create(ctx, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: highPriority}, Value: highPriorityValue}, metav1.CreateOptions{})
	return err
}

// grow adds nodes until there are n.
func (c *cluster) grow(ctx context.Context, n int) error {
	from := c.nodes
	c.nodes = max(n, from)
	return each(ctx, n-from, func(i int) error { return c.addNode(ctx, from+i) })
}

func (c *cluster) addNode(ctx context.Context, i int) error {
	n := nodeOf(i)
	if _, err := c.client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
		return err
	}
	// Admission adds a not-ready taint to new nodes, which a controller that does not run here would remove.
	_, err := c.client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{})
	return err
}

// measure measures each workload.
func (c *cluster) measure(ctx context.Context, o options, r *results) error {
	for i := range workloads {
		w := &workloads[i]
		if o.only != "" && o.only != w.name || w.preempts && c.nodes > 1000 {
			continue // creating a full cluster of 5 000 nodes takes minutes
		}
		f, err := c.schedule(ctx, w, o.pods)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		// On the largest cluster the Pods stay: there is room, and the memory figure needs many.
		if c.nodes < slices.Max(o.sizes) || w.preempts {
			if err := c.clear(ctx); err != nil {
				return err
			}
		}
		r.through = append(r.through, f)
		fmt.Fprintf(statusOut, "%-24s %5d nodes %6.0f Pods/s (created at %.0f/s)\n", w.name, c.nodes, f.rate(), float64(f.pods)/f.created.Seconds())
	}
	return nil
}

// schedule creates the preexisting and the measured Pods and only then starts the scheduler, so that the figure
// does not include the creation of Pods, which takes the API server longer than anything else.
func (c *cluster) schedule(ctx context.Context, w *workload, pods int) (f throughput, err error) {
	there := w.before(c.nodes)
	if err := each(ctx, there, func(i int) error {
		p := w.first(i)
		p.Spec.NodeName = nodeName(i % c.nodes)
		return c.create(ctx, p)
	}); err != nil {
		return f, err
	}
	if w.most != nil {
		pods = min(pods, w.most(c.nodes))
	}
	f = throughput{workload: w.name, floor: w.floor, nodes: c.nodes, before: there, pods: pods}
	start := time.Now()
	if err := each(ctx, pods, func(i int) error { return c.create(ctx, w.measure(i)) }); err != nil {
		return f, err
	}
	f.created = time.Since(start)
	bound, err := c.watchBindings(ctx)
	if err != nil {
		return f, err
	}
	runtime.GC()
	stop, err := startScheduler(ctx, c.server.Config)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	f.took, err = bound.last(ctx, pods)
	return f, err
}

func (c *cluster) create(ctx context.Context, p *corev1.Pod) error {
	p.UID = ""
	_, err := c.client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	return err
}

// awake waits until the scheduler has placed a Pod, which means that it has read the cluster's state.
func (c *cluster) awake(ctx context.Context) error {
	bound, err := c.watchBindings(ctx)
	if err != nil {
		return err
	}
	p := podOf(measured, "awake", 0)
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
	if err := c.create(ctx, p); err != nil {
		return err
	}
	if _, err := bound.last(ctx, 1); err != nil {
		return fmt.Errorf("the scheduler does not start: %w", err)
	}
	return c.client.CoreV1().Pods(measured).Delete(ctx, p.Name, metav1.DeleteOptions{})
}

// clear deletes all Pods.
func (c *cluster) clear(ctx context.Context) error {
	for _, ns := range []string{before, measured} {
		list, err := c.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		zero := int64(0)
		if err := each(ctx, len(list.Items), func(i int) error {
			err := c.client.CoreV1().Pods(ns).Delete(ctx, list.Items[i].Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// bindings counts the Pods of the measured namespace that got a node.
type bindings struct {
	n atomic.Int64
	// first and at are the times of the first and the last binding, in Unix nanoseconds.
	first, at atomic.Int64
	more      chan struct{}
	stop      func()
}

func (c *cluster) watchBindings(ctx context.Context) (*bindings, error) {
	list, err := c.client.CoreV1().Pods(measured).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	w, err := c.client.CoreV1().Pods(measured).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion, FieldSelector: "spec.nodeName!="})
	if err != nil {
		return nil, err
	}
	b := &bindings{more: make(chan struct{}, 1), stop: w.Stop}
	seen := map[types.UID]bool{}
	go func() {
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok || seen[p.UID] || p.DeletionTimestamp != nil {
				continue
			}
			seen[p.UID] = true
			now := time.Now().UnixNano()
			b.first.CompareAndSwap(0, now)
			b.at.Store(now)
			b.n.Add(1)
			select {
			case b.more <- struct{}{}:
			default:
			}
		}
	}()
	return b, nil
}

// patience is how long no Pod may be bound before that is an error.
const patience = 2 * time.Minute

// last waits for n bindings and returns the time from the first to the last.
func (b *bindings) last(ctx context.Context, n int) (time.Duration, error) {
	defer b.stop()
	idle := time.NewTimer(patience)
	defer idle.Stop()
	for b.n.Load() < int64(n) {
		idle.Reset(patience)
		select {
		case <-b.more:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-idle.C:
			return 0, fmt.Errorf("%d of %d Pods were bound, and then none for %v", b.n.Load(), n, patience)
		}
	}
	return time.Duration(b.at.Load() - b.first.Load()), nil
}

// each calls f for 0 to n-1, several at a time, until one call fails.
func each(ctx context.Context, n int, f func(int) error) error {
	var next atomic.Int64
	var first error
	var once sync.Once
	var workers sync.WaitGroup
	for range min(atOnce, max(n, 0)) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				if err := f(i); err != nil {
					once.Do(func() { first = err })
					next.Store(int64(n))
					return
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(first, ctx.Err())
}
