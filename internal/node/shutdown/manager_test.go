package shutdown

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/node/pod"
)

func TestPeriods(t *testing.T) {
	k := &kubeletconfig.KubeletConfiguration{}
	if got := Periods(k); got != nil {
		t.Errorf("by default: %v", got)
	}
	k.ShutdownGracePeriod.Duration, k.ShutdownGracePeriodCriticalPods.Duration = 30*time.Second, 10*time.Second
	if got := Periods(k); len(got) != 2 || got[0] != (Period{0, 20 * time.Second}) || got[1] != (Period{2000000000, 10 * time.Second}) {
		t.Errorf("of two settings: %v", got)
	}
	k.ShutdownGracePeriod.Duration, k.ShutdownGracePeriodCriticalPods.Duration = 0, 0
	k.ShutdownGracePeriodByPodPriority = []kubeletconfig.ShutdownGracePeriodByPodPriority{
		{Priority: 2000000000, ShutdownGracePeriodSeconds: 5}, {Priority: -2000000000, ShutdownGracePeriodSeconds: 1}, {Priority: 10, ShutdownGracePeriodSeconds: 2},
	}
	got := Periods(k)
	if len(got) != 3 || got[0].Priority != -2000000000 || got[1].Priority != 10 || got[2].Grace != 5*time.Second || total(got) != 8*time.Second {
		t.Errorf("by priority: %v", got)
	}
	names := func(pods []*v1.Pod) string {
		var out []string
		for _, p := range pods {
			out = append(out, p.Name)
		}
		return strings.Join(out, " ")
	}
	groups := group(got[1:], []*v1.Pod{newPod("none", nil), newPod("low", ptr.To[int32](-5)), newPod("ten", ptr.To[int32](10)),
		newPod("more", ptr.To[int32](1999999999)), newPod("critical", ptr.To[int32](2000000000)), newPod("node", ptr.To[int32](2000001000))})
	if a, b := names(groups[0]), names(groups[1]); a != "none low ten more" || b != "critical node" {
		t.Errorf("groups: %q, %q", a, b)
	}
}

func newPod(name string, priority *int32) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: v1.PodSpec{Priority: priority}}
}

// pods end when they are told to.
type pods struct {
	mu      sync.Mutex
	list    []*v1.Pod
	evicted chan types.UID
	ends    map[types.UID]chan struct{}
	why     pod.Verdict
}

func (p *pods) Active() []*v1.Pod { return p.list }

func (p *pods) Evict(uid types.UID, why pod.Verdict) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends[uid], p.why = make(chan struct{}), why
	p.evicted <- uid
	return p.ends[uid]
}

func (p *pods) end(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.ends[uid])
}

// login is a logind of a test.
type login struct {
	bus   func() (*dbus.Conn, error)
	conn  *dbus.Conn
	mu    sync.Mutex
	delay time.Duration
	dir   string
	locks []*os.File // the reading ends: EOF says that the lock was released
	asked chan struct{}
}

func (l *login) Inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	if what != "shutdown" || mode != "delay" || who == "" || why == "" {
		return 0, dbus.MakeFailedError(os.ErrInvalid)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.locks = append(l.locks, r)
	l.asked <- struct{}{}
	fd := dbus.UnixFD(w.Fd())
	// The message takes a copy of the descriptor a moment later.
	time.AfterFunc(time.Second, func() { _ = w.Close() })
	return fd, nil
}

func (l *login) Get(_, name string) (dbus.Variant, *dbus.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return dbus.MakeVariant(uint64(l.delay / time.Microsecond)), nil
}

func (l *login) KillUnit(unit, _ string, signal int32) *dbus.Error {
	text, err := os.ReadFile(filepath.Join(l.dir, settingsFile))
	if unit != loginUnit || signal != 1 || err != nil || !strings.Contains(string(text), "InhibitDelayMaxSec=30\n") {
		return dbus.MakeFailedError(os.ErrInvalid)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = 30 * time.Second
	return nil
}

func (l *login) say(t *testing.T, begins bool) {
	t.Helper()
	if err := l.conn.Emit(loginPath, loginManager+".PrepareForShutdown", begins); err != nil {
		t.Fatal(err)
	}
}

// released waits until the lock of that number is let go.
func (l *login) released(t *testing.T, i int) {
	t.Helper()
	l.mu.Lock()
	r := l.locks[i]
	l.mu.Unlock()
	_ = r.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := r.Read(make([]byte, 1)); os.IsTimeout(err) {
		t.Fatal("the lock is still held")
	}
}

func TestShutdown(t *testing.T) {
	l := newLogin(t, 5*time.Second)
	p := &pods{evicted: make(chan types.UID, 10), ends: map[types.UID]chan struct{}{}, list: []*v1.Pod{
		newPod("critical", ptr.To[int32](2000000000)), newPod("a", nil), newPod("b", nil),
	}}
	recorder := record.NewFakeRecorder(10)
	clk := testingclock.NewFakeClock(time.Now())
	changed := make(chan struct{}, 10)
	m := New(Config{
		Periods: []Period{{0, 20 * time.Second}, {2000000000, 10 * time.Second}}, Pods: p, Recorder: recorder, Clock: clk,
		Node:     func() *v1.ObjectReference { return &v1.ObjectReference{} },
		OnChange: func() { changed <- struct{}{} }, Bus: l.bus, LogindDir: l.dir,
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	wait := func(c <-chan struct{}, what string) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(10 * time.Second):
			t.Fatal("never came true: " + what)
		}
	}
	evicted := func(want ...types.UID) {
		t.Helper()
		for range want {
			select {
			case uid := <-p.evicted:
				if uid != want[0] && uid != want[len(want)-1] {
					t.Errorf("%s was evicted, not %v", uid, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%v were not evicted", want)
			}
		}
	}
	wait(l.asked, "shutdowns are delayed")
	if m.Down() || m.Admit(nil, nil) != nil {
		t.Error("down before a shutdown")
	}
	l.say(t, true)
	wait(changed, "the node's status is written")
	if v := m.Admit(nil, nil); v == nil || v.Reason != "NodeShutdown" || v.Message != "Pod was rejected as the node is shutting down." {
		t.Errorf("a new Pod: %+v", v)
	}
	evicted("a", "b")
	if w := p.why; w.Reason != "Terminated" || w.Message != message || *w.Grace != 20 || w.DisruptionReason != "TerminationByKubelet" {
		t.Errorf("why: %+v", w)
	}
	p.end("a")
	if len(p.evicted) != 0 {
		t.Error("the critical Pod does not wait for the others")
	}
	p.end("b")
	evicted("critical")
	for !clk.HasWaiters() {
		time.Sleep(time.Millisecond)
	}
	clk.Step(10 * time.Second) // it does not end
	l.released(t, 0)

	l.say(t, false)
	wait(l.asked, "shutdowns are delayed again")
	wait(changed, "the node's status is written")
	if m.Down() {
		t.Error("down after it was called off")
	}
	for _, want := range []string{"Normal NodeShutdown Shutdown manager detected shutdown event", "Normal NodeShutdown Shutdown manager detected shutdown cancellation"} {
		if got := <-recorder.Events; got != want {
			t.Errorf("event %q, want %q", got, want)
		}
	}
	cancel()
	wait(done, "it ends")
	l.released(t, 1)
	if _, err := os.Stat(filepath.Join(l.dir, settingsFile)); err == nil {
		t.Error("the file in logind's folder is left")
	}
}

func TestNothingToDo(t *testing.T) {
	refuse := func() (*dbus.Conn, error) { return nil, os.ErrNotExist }
	New(Config{Bus: func() (*dbus.Conn, error) { t.Error("the bus was asked for nothing"); return refuse() }}).Run(t.Context())
	New(Config{Periods: []Period{{0, time.Second}}, Bus: refuse, LogindDir: t.TempDir()}).Run(t.Context())
}

// Without logind on the bus there is nothing to do either.
func TestNoLogind(t *testing.T) {
	bus, _ := privateBus(t)
	New(Config{Periods: []Period{{0, time.Second}}, Bus: bus, LogindDir: t.TempDir()}).Run(t.Context())
}
