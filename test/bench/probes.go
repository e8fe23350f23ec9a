package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probed is a server on the node's machine that the Pods' probes request. It records its responses.
type probed struct {
	server http.Server
	port   int

	mu sync.Mutex
	ok bool
	// said is the time of the first response since the last change.
	said time.Time
}

func startProbed() (*probed, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for probes: %w", err)
	}
	p := &probed{port: l.Addr().(*net.TCPAddr).Port, ok: true}
	p.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.said.IsZero() {
			p.said = time.Now()
		}
		if !p.ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	go func() { _ = p.server.Serve(l) }()
	return p, nil
}

// turn changes the responses from now on.
func (p *probed) turn(ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ok, p.said = ok, time.Time{}
}

// answered returns the time of the first response since the last turn.
func (p *probed) answered() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said
}

// probe returns a probe that requests the server every second.
func (p *probed) probe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: "127.0.0.1", Port: intstr.FromInt(p.port), Path: "/"}},
		PeriodSeconds: 1, FailureThreshold: 1,
	}
}

// measureReadiness takes the time from the response to a readiness probe to the watch event that reports it, in
// both directions.
func measureReadiness(ctx context.Context, o options, c *cluster, r *results) error {
	p, err := startProbed()
	if err != nil {
		return err
	}
	defer p.server.Close()
	const name = "ready"
	if _, err := c.create(ctx, name, stays, func(pod *corev1.Pod) { pod.Spec.Containers[0].ReadinessProbe = p.probe() }); err != nil {
		return err
	}
	if _, err := c.until(ctx, name, turned(true)); err != nil {
		return err
	}
	var all []time.Duration
	for i := range o.rounds {
		ready := i%2 == 1
		p.turn(ready)
		at, err := c.until(ctx, name, turned(ready))
		if err != nil {
			return err
		}
		all = append(all, at.Sub(p.answered()))
	}
	r.times("answer to a readiness probe → seen by a watch", all)
	return c.remove(ctx, name)
}

// turned returns a function that returns when a Pod became ready or unready, if that is its state.
func turned(ready bool) func(*state) time.Time {
	return func(s *state) time.Time {
		if s.ready != ready {
			return time.Time{}
		}
		return s.turned
	}
}

// probedPods and probedSpan are the number of Pods with probes and the time over which the daemon's cost is
// measured.
const (
	probedPods = 100
	probedSpan = 20 * time.Second
)

// measureProbes takes what the daemon uses for Pods with a startup, a liveness and a readiness probe each, over
// HTTP, every second, and for the same number without probes.
func measureProbes(ctx context.Context, o options, n *node, r *results) error {
	c, err := connect(ctx, n.kubeconfig(), o.image)
	if err != nil {
		return err
	}
	defer c.close()
	pid, err := n.pid(ctx)
	if err != nil {
		return err
	}
	p, err := startProbed()
	if err != nil {
		return err
	}
	defer p.server.Close()
	for _, probes := range []bool{false, true} {
		what, change := "no probes", func(*corev1.Pod) {}
		if probes {
			what, change = "three probes a second", func(pod *corev1.Pod) {
				first := &pod.Spec.Containers[0]
				first.StartupProbe, first.LivenessProbe, first.ReadinessProbe = p.probe(), p.probe(), p.probe()
			}
		}
		prefix := fmt.Sprintf("probed-%v", probes)
		if _, err := c.burst(ctx, prefix, probedPods, change); err != nil {
			return err
		}
		for i := range probedPods {
			if _, err := c.until(ctx, fmt.Sprintf("%s-%d", prefix, i), turned(true)); err != nil {
				return err
			}
		}
		if err := wait(ctx, 10*time.Second); err != nil { // the work of the start is over by then
			return err
		}
		used, began := processorTime(pid), time.Now()
		if err := wait(ctx, probedSpan); err != nil {
			return err
		}
		share := (processorTime(pid) - used).Seconds() / time.Since(began).Seconds()
		r.set(fmt.Sprintf("%d Pods with %s: processor of the daemon", probedPods, what), fmt.Sprintf("%.1f %% of a core", 100*share))
		r.bytes(fmt.Sprintf("%d Pods with %s: PSS of the daemon", probedPods, what), pss(pid))
		if _, err := c.clear(ctx, prefix, probedPods); err != nil {
			return err
		}
	}
	return nil
}
