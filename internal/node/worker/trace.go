package worker

import (
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
)

// Bounds of what is kept: the steps of one Pod, and Pods.
const (
	maxSteps  = 64
	maxTraces = 1024
)

// Trace is how a Pod came up and went down on this node, step by step.
type Trace struct {
	Namespace, Name, UID string
	// Created is when the API made the Pod, Scheduled when it was given to this node, Seen when the node
	// first saw it, Running when it first ran, Ready when it first was ready; zero for what was not yet.
	Created, Scheduled, Seen, Running, Ready time.Time
	// Steps are in the order of their ends; of very many only the first and the last are kept.
	Steps []Step
}

// Step is one step of a Pod's life.
type Step struct {
	// Name is the step's, Container the container it was for, "" for the Pod.
	Name, Container string
	Start           time.Time
	Took            time.Duration
	// Err is why it failed, "" when it did not.
	Err string
}

// traces keeps the traces of the Pods that were here last.
type traces struct {
	mu    sync.Mutex
	all   []*tracer // oldest first
	named map[string]*tracer
}

func newTraces() *traces { return &traces{named: map[string]*tracer{}} }

// tracer gathers one trace.
type tracer struct {
	mu    sync.Mutex
	trace Trace
}

func traceKey(namespace, name string) string { return namespace + "/" + name }

// begin begins the trace of a Pod.
func (ts *traces) begin(p *v1.Pod, now time.Time) *tracer {
	t := &tracer{trace: Trace{
		Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Created: p.CreationTimestamp.Time, Seen: now,
	}}
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == v1.PodScheduled && c.Status == v1.ConditionTrue {
			t.trace.Scheduled = c.LastTransitionTime.Time
		}
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.all) >= maxTraces {
		old := ts.all[0]
		ts.all = ts.all[1:]
		if key := traceKey(old.trace.Namespace, old.trace.Name); ts.named[key] == old {
			delete(ts.named, key)
		}
	}
	ts.all = append(ts.all, t)
	ts.named[traceKey(p.Namespace, p.Name)] = t
	return t
}

func (ts *traces) get(namespace, name string) (Trace, bool) {
	ts.mu.Lock()
	t := ts.named[traceKey(namespace, name)]
	ts.mu.Unlock()
	if t == nil {
		return Trace{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.trace
	out.Steps = append([]Step(nil), t.trace.Steps...)
	return out, true
}

// add adds a step. The first half of the steps kept is how the Pod came up; of the rest the last are kept.
func (t *tracer) add(s Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.trace.Steps) >= maxSteps {
		t.trace.Steps = append(t.trace.Steps[:maxSteps/2], t.trace.Steps[maxSteps/2+1:]...)
	}
	t.trace.Steps = append(t.trace.Steps, s)
}

// mark notes when the Pod first ran and first was ready.
func (t *tracer) mark(st *v1.PodStatus, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trace.Running.IsZero() && st.Phase == v1.PodRunning {
		t.trace.Running = now
	}
	if !t.trace.Ready.IsZero() {
		return
	}
	for i := range st.Conditions {
		if c := &st.Conditions[i]; c.Type == v1.PodReady && c.Status == v1.ConditionTrue {
			t.trace.Ready = now
		}
	}
}

// step runs one step of the Pod's life and times it: the one place where that is done.
func (t *tracer) step(c clock.PassiveClock, name, container string, f func() error) error {
	begun := c.Now()
	err := f()
	s := Step{Name: name, Container: container, Start: begun, Took: c.Since(begun)}
	if err != nil {
		s.Err = err.Error()
	}
	t.add(s)
	return err
}

// step is a step of the worker's Pod.
func (w *worker) step(name, container string, f func() error) error {
	return w.trace.step(w.m.cfg.Clock, name, container, f)
}
