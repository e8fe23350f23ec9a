package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	utilexec "k8s.io/utils/exec"
)

const waiting = 10 * time.Second

// scripted is a runtime whose commands answer as a function says.
type scripted struct {
	internalapi.RuntimeService
	exec func(ctx context.Context, id string, cmd []string, timeout time.Duration) ([]byte, []byte, error)
}

func (s scripted) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) ([]byte, []byte, error) {
	return s.exec(ctx, id, cmd, timeout)
}

func exit(code int) error {
	return utilexec.CodeExitError{Err: fmt.Errorf("command exited with %d", code), Code: code}
}

func execProbe(name string, p v1.Probe) *v1.Probe {
	p.Exec = &v1.ExecAction{Command: []string{name}}
	p.TimeoutSeconds = max(p.TimeoutSeconds, 1)
	return &p
}

func podOf(c v1.Container) *v1.Pod {
	c.Name = "c"
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "uid"}, Spec: v1.PodSpec{Containers: []v1.Container{c}}}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waiting); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %v", what, waiting)
		}
		<-time.After(time.Millisecond)
	}
}

func is(p *bool, want bool) bool { return p != nil && *p == want }

// bench is a Manager with a fake clock whose probes answer by their command's name.
type bench struct {
	*Manager
	t      *testing.T
	clock  *clocktesting.FakeClock
	events *record.FakeRecorder
	start  time.Time

	mu      sync.Mutex
	answers map[string]error
	asked   map[string]int
	changes atomic.Int32
}

func newBench(t *testing.T) *bench {
	start := time.Now()
	b := &bench{
		t: t, clock: clocktesting.NewFakeClock(start), events: record.NewFakeRecorder(1000), start: start,
		answers: map[string]error{}, asked: map[string]int{},
	}
	b.Manager = New(Config{
		Clock: b.clock, Recorder: b.events, OnChange: func(types.UID) { b.changes.Add(1) },
		Runtime: scripted{exec: func(_ context.Context, _ string, cmd []string, _ time.Duration) ([]byte, []byte, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.asked[cmd[0]]++
			return []byte("out "), []byte("err"), b.answers[cmd[0]]
		}},
	})
	return b
}

func (b *bench) answer(name string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers[name] = err
}

// step lets time pass and waits until the probe has been asked so often and the next run is arranged.
func (b *bench) step(d time.Duration, name string, asked int) {
	b.t.Helper()
	b.clock.Step(d)
	eventually(b.t, fmt.Sprintf("%s asked %d times", name, asked), func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.asked[name] == asked
	})
	b.settle()
}

// settle waits until no probe is on its way.
func (b *bench) settle() {
	eventually(b.t, "rest", func() bool {
		buf := make([]byte, 1<<20)
		return !strings.Contains(string(buf[:runtime.Stack(buf, true)]), "probe.(*Manager).run")
	})
}

func (b *bench) outcome(id string) Outcome { return b.Outcomes("uid")[id] }

func TestStartupGatesTheOthers(t *testing.T) {
	b := newBench(t)
	pod := podOf(v1.Container{
		StartupProbe:   execProbe("startup", v1.Probe{PeriodSeconds: 10, FailureThreshold: 3}),
		LivenessProbe:  execProbe("live", v1.Probe{PeriodSeconds: 10, FailureThreshold: 1}),
		ReadinessProbe: execProbe("ready", v1.Probe{PeriodSeconds: 10, InitialDelaySeconds: 30}),
	})
	b.answer("startup", exit(1))
	b.Sync(pod, []Target{{Container: "c", ID: "1", StartedAt: b.start}})
	b.step(0, "startup", 1)
	if o := b.outcome("1"); o.Started != nil || o.Live != nil || o.Ready != nil {
		t.Errorf("outcome %+v", o)
	}
	b.answer("startup", nil)
	b.step(10*time.Second, "startup", 2)
	if o := b.outcome("1"); !is(o.Started, true) {
		t.Errorf("outcome %+v", o)
	}
	b.step(0, "live", 1)
	b.step(20*time.Second, "ready", 1)
	if o := b.outcome("1"); !is(o.Ready, true) || !is(o.Live, true) {
		t.Errorf("outcome %+v", o)
	}
	if b.asked["startup"] != 2 {
		t.Errorf("startup was asked %d times", b.asked["startup"])
	}
	want := "Warning Unhealthy Startup probe failed: out err"
	if got := <-b.events.Events; got != want {
		t.Errorf("event %q", got)
	}
}

func TestLivenessFailsOnce(t *testing.T) {
	b := newBench(t)
	pod := podOf(v1.Container{LivenessProbe: execProbe("live", v1.Probe{PeriodSeconds: 5, FailureThreshold: 2, InitialDelaySeconds: 15})})
	b.answer("live", exit(1))
	b.Sync(pod, []Target{{Container: "c", ID: "1", StartedAt: b.start}})
	b.clock.Step(14 * time.Second)
	b.step(time.Second, "live", 1)
	b.step(5*time.Second, "live", 2)
	if o := b.outcome("1"); !is(o.Live, false) || o.Message != "out err" {
		t.Errorf("outcome %+v", o)
	}
	if got := b.changes.Load(); got != 1 {
		t.Errorf("%d changes told", got)
	}
	b.clock.Step(time.Minute)
	b.settle()
	if b.asked["live"] != 2 {
		t.Error("a container that is to be killed is probed on")
	}
	// The next run of the container is another.
	b.answer("live", nil)
	b.Sync(pod, []Target{{Container: "c", ID: "2", StartedAt: b.clock.Now()}})
	b.step(15*time.Second, "live", 3)
	if o := b.outcome("2"); !is(o.Live, true) || o.Message != "" {
		t.Errorf("outcome %+v", o)
	}
	if len(b.Outcomes("uid")) != 1 {
		t.Error("the old container's outcome is left")
	}
}

func TestErrorsDoNotCount(t *testing.T) {
	b := newBench(t)
	pod := podOf(v1.Container{LivenessProbe: execProbe("live", v1.Probe{PeriodSeconds: 5, FailureThreshold: 1})})
	b.answer("live", fmt.Errorf("no such container"))
	b.Sync(pod, []Target{{Container: "c", ID: "1", StartedAt: b.start}})
	b.step(0, "live", 3)
	if o := b.outcome("1"); o.Live != nil {
		t.Errorf("outcome %+v", o)
	}
	if got := <-b.events.Events; got != "Warning Unhealthy Liveness probe errored and resulted in unknown state: no such container" {
		t.Errorf("event %q", got)
	}
}

func TestExecTimeout(t *testing.T) {
	b := newBench(t)
	pod := podOf(v1.Container{ReadinessProbe: execProbe("ready", v1.Probe{PeriodSeconds: 5, TimeoutSeconds: 2})})
	b.answer("ready", context.DeadlineExceeded)
	b.Sync(pod, []Target{{Container: "c", ID: "1", StartedAt: b.start}})
	b.step(0, "ready", 1)
	if o := b.outcome("1"); !is(o.Ready, false) {
		t.Errorf("outcome %+v", o)
	}
	if got := <-b.events.Events; got != `Warning Unhealthy Readiness probe failed: command timed out: "ready" timed out after 2s` {
		t.Errorf("event %q", got)
	}
}

func TestDeletionKeepsReadinessOnly(t *testing.T) {
	b := newBench(t)
	pod := podOf(v1.Container{
		LivenessProbe:  execProbe("live", v1.Probe{PeriodSeconds: 5, FailureThreshold: 1}),
		ReadinessProbe: execProbe("ready", v1.Probe{PeriodSeconds: 5}),
	})
	target := []Target{{Container: "c", ID: "1", StartedAt: b.start}}
	b.Sync(pod, target)
	b.step(0, "ready", 1)
	pod = pod.DeepCopy()
	pod.DeletionTimestamp = &metav1.Time{Time: b.start}
	b.Sync(pod, target)
	b.step(5*time.Second, "ready", 2)
	if b.asked["live"] != 1 {
		t.Errorf("live was asked %d times", b.asked["live"])
	}
}

func TestRestartOfTheNode(t *testing.T) {
	b := newBench(t)
	yes := true
	pod := podOf(v1.Container{
		StartupProbe:   execProbe("startup", v1.Probe{PeriodSeconds: 10}),
		ReadinessProbe: execProbe("ready", v1.Probe{PeriodSeconds: 10}),
	})
	pod.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "c", ContainerID: "podium://1", Started: &yes, Ready: true}}
	b.jitter = func(d time.Duration) time.Duration { return d / 2 }
	b.Sync(pod, []Target{{Container: "c", ID: "1", StartedAt: b.start.Add(-time.Hour)}})
	if o := b.outcome("1"); !is(o.Started, true) || !is(o.Ready, true) {
		t.Errorf("outcome %+v", o)
	}
	b.clock.Step(4 * time.Second)
	b.settle()
	if b.asked["ready"] != 0 {
		t.Error("probed before the spread is over")
	}
	b.answer("ready", exit(1))
	b.step(time.Second, "ready", 1)
	if o := b.outcome("1"); !is(o.Ready, false) || b.asked["startup"] != 0 {
		t.Errorf("outcome %+v, startup asked %d times", o, b.asked["startup"])
	}
}

// A probe that hangs delays no other, and leaves nothing when its Pod goes.
func TestHangingProbe(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	var ready atomic.Int32
	m := New(Config{Runtime: scripted{exec: func(ctx context.Context, _ string, cmd []string, _ time.Duration) ([]byte, []byte, error) {
		if cmd[0] == "hang" {
			select {
			case <-ctx.Done():
			case <-release:
			}
			return nil, nil, ctx.Err()
		}
		ready.Add(1)
		return nil, nil, nil
	}}})
	before := runtime.NumGoroutine()
	pod := podOf(v1.Container{
		LivenessProbe:  execProbe("hang", v1.Probe{PeriodSeconds: 1}),
		ReadinessProbe: execProbe("ready", v1.Probe{PeriodSeconds: 1}),
	})
	m.Sync(pod, []Target{{Container: "c", ID: "1", StartedAt: time.Now()}})
	eventually(t, "two rounds", func() bool { return ready.Load() >= 2 })
	m.Remove(pod.UID)
	eventually(t, "end of the goroutines", func() bool { return runtime.NumGoroutine() <= before })
	if len(m.pods) != 0 {
		t.Error("the Pod is left")
	}
}

func serve(t *testing.T, tls bool, h http.HandlerFunc) (host string, port intstr.IntOrString) {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = nil
	if tls {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(u.Port())
	return u.Hostname(), intstr.FromInt32(int32(n))
}

func TestHTTP(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/other":
			http.Redirect(w, r, "http://example.com/", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/", http.StatusMovedPermanently)
		case "/fail":
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, "secret")
		case "/slow":
			<-r.Context().Done()
		case "/big":
			w.Write(make([]byte, 1<<20))
		default:
			fmt.Fprintf(w, "%s %s %s %s %s", r.UserAgent(), r.Header.Get("Accept"), r.Host, r.Header.Get("X"), r.URL.RawQuery)
		}
	}
	host, port := serve(t, false, echo)
	tlsHost, tlsPort := serve(t, true, echo)
	_ = tlsHost
	a := newAsker(nil)
	for _, tc := range []struct {
		name   string
		get    v1.HTTPGetAction
		result result
		text   string
	}{
		{"plain", v1.HTTPGetAction{Path: "/?a=b"}, succeeded, "kube-probe/1.37 */* " + host + ":" + port.String() + "  a=b"},
		{"headers", v1.HTTPGetAction{HTTPHeaders: []v1.HTTPHeader{{Name: "host", Value: "h"}, {Name: "x", Value: "y"}, {Name: "User-Agent", Value: "u"}, {Name: "accept", Value: ""}}},
			succeeded, "u  h y "},
		{"https", v1.HTTPGetAction{Scheme: v1.URISchemeHTTPS, Port: tlsPort, HTTPHeaders: []v1.HTTPHeader{{Name: "Host", Value: "h"}}}, succeeded, "kube-probe/1.37 */* h  "},
		{"status", v1.HTTPGetAction{Path: "/fail"}, failed, "HTTP probe failed with statuscode: 500"},
		{"redirect here", v1.HTTPGetAction{Path: "/here", HTTPHeaders: []v1.HTTPHeader{{Name: "X", Value: "y"}}}, succeeded, "kube-probe/1.37 */* " + host + ":" + port.String() + " y "},
		{"redirect elsewhere", v1.HTTPGetAction{Path: "/other"}, warned, "Probe terminated redirects, Response body: <a href=\"http://example.com/\">Found</a>.\n\n"},
		{"redirects without end", v1.HTTPGetAction{Path: "/loop"}, failed, `Get "/loop": stopped after 10 redirects`},
		{"slow", v1.HTTPGetAction{Path: "/slow"}, failed, `context deadline exceeded (Client.Timeout exceeded while awaiting headers)`},
		{"named port", v1.HTTPGetAction{Path: "/fail", Port: intstr.FromString("web")}, failed, "HTTP probe failed with statuscode: 500"},
		{"no server", v1.HTTPGetAction{Port: intstr.FromInt32(1)}, failed, "connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.get.Port.String() == "0" {
				tc.get.Port = port
			}
			c := &v1.Container{Ports: []v1.ContainerPort{{Name: "web", ContainerPort: int32(port.IntValue())}}}
			got := a.ask(context.Background(), &v1.Probe{TimeoutSeconds: 1, ProbeHandler: v1.ProbeHandler{HTTPGet: &tc.get}}, c, Target{PodIP: host})
			if got.err != nil || got.result != tc.result || (tc.result != failed && got.text != tc.text) || !strings.Contains(got.text, tc.text) {
				t.Errorf("got %+v", got)
			}
		})
	}
	big := a.ask(context.Background(), &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/big", Port: port}}}, &v1.Container{}, Target{PodIP: host})
	if big.result != succeeded || len(big.text) != maxAnswer {
		t.Errorf("of a big body %d bytes, %s", len(big.text), big.result)
	}
	lost := a.ask(context.Background(), &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Port: intstr.FromString("none")}}}, &v1.Container{}, Target{PodIP: host})
	if lost.err == nil || lost.err.Error() != `port "none" not found` {
		t.Errorf("of a port that is not there: %+v", lost)
	}
}

func TestTCP(t *testing.T) {
	host, port := serve(t, false, func(http.ResponseWriter, *http.Request) {})
	a := newAsker(nil)
	ask := func(p intstr.IntOrString) answer {
		return a.ask(context.Background(), &v1.Probe{ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: p}}}, &v1.Container{}, Target{PodIP: host})
	}
	if got := ask(port); got.result != succeeded {
		t.Errorf("got %+v", got)
	}
	if got := ask(intstr.FromInt32(1)); got.result != failed || !strings.Contains(got.text, "connection refused") {
		t.Errorf("got %+v", got)
	}
}

// BenchmarkHTTP is what one HTTP probe costs the node, the server's work left out as far as it can be.
func BenchmarkHTTP(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	defer server.Close()
	u, _ := url.Parse(server.URL)
	n, _ := strconv.Atoi(u.Port())
	a := newAsker(nil)
	spec := &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(int32(n))}}}
	for b.Loop() {
		if got := a.ask(context.Background(), spec, &v1.Container{}, Target{PodIP: u.Hostname()}); got.result != succeeded {
			b.Fatal(got)
		}
	}
}

func TestClockThatOnlyTicks(t *testing.T) {
	c := delayed(struct{ clock.WithTicker }{clock.RealClock{}})
	called := make(chan bool, 2)
	c.AfterFunc(0, func() { called <- true })
	<-called
	before := runtime.NumGoroutine()
	c.AfterFunc(time.Hour, func() { called <- false }).Stop()
	eventually(t, "end of the waiting", func() bool { return runtime.NumGoroutine() <= before })
}
