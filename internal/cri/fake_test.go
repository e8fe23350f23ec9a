package cri_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	testclock "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/cri"
	"podium.dev/podium/internal/cri/critest"
	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/shim/fake"
)

// world is the real runtime above scripted shims and a machine in memory: it needs no root.
type world struct {
	t        *testing.T
	cfg      cri.Config
	r        *cri.Runtime
	api      internalapi.RuntimeService
	launcher *fake.Launcher
	machine  *critest.Machine
	images   *critest.Images
	network  *critest.Network
	clock    *testclock.FakeClock
}

func newWorld(t *testing.T) *world {
	t.Helper()
	clk := testclock.NewFakeClock(time.Unix(1_700_000_000, 0))
	w := &world{
		t: t, clock: clk, launcher: &fake.Launcher{Clock: clk}, machine: &critest.Machine{}, images: &critest.Images{}, network: &critest.Network{},
	}
	w.cfg = cri.Config{Paths: paths.For(t.TempDir()), Images: w.images, Network: w.network, Launcher: w.launcher, Machine: w.machine, Clock: clk}
	w.open()
	t.Cleanup(w.checkClean)
	return w
}

func (w *world) open() {
	w.t.Helper()
	r, err := cri.New(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.r, w.api = r, r.Local()
}

func (w *world) reopen() {
	w.t.Helper()
	if err := w.r.Close(); err != nil {
		w.t.Error(err)
	}
	w.open()
}

func (w *world) checkClean() {
	if err := w.r.RemoveAll(context.Background()); err != nil {
		w.t.Error(err)
	}
	if err := w.r.Close(); err != nil {
		w.t.Error(err)
	}
	if left := slices.Concat(w.images.Left(), w.network.Left(), w.machine.Left()); len(left) > 0 {
		w.t.Errorf("left: %v", left)
	}
	if n := w.launcher.Running(); n > 0 {
		w.t.Errorf("%d shims are left", n)
	}
}

func (w *world) pod(name string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name}, Hostname: name,
		LogDirectory: filepath.Join(w.cfg.Paths.PodLogs, name), Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/kubepods/pod" + name},
	}
}

func (w *world) container(name string, s fake.Script) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: "img"}, Command: s.Args(), LogPath: name + ".log",
	}
}

func (w *world) run(pod *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig) (sandbox, id string) {
	w.t.Helper()
	sandbox, err := w.api.RunPodSandbox(w.t.Context(), pod, "")
	if err != nil {
		w.t.Fatal(err)
	}
	if id, err = w.api.CreateContainer(w.t.Context(), sandbox, c, pod); err != nil {
		w.t.Fatal(err)
	}
	if err := w.api.StartContainer(w.t.Context(), id); err != nil {
		w.t.Fatal(err)
	}
	return sandbox, id
}

func (w *world) status(id string) *runtimeapi.ContainerStatus {
	w.t.Helper()
	res, err := w.api.ContainerStatus(w.t.Context(), id, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Status
}

func (w *world) eventually(what string, so func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if so() {
			return
		}
	}
	w.t.Errorf("not so: %s", what)
}

func (w *world) exited(id string) *runtimeapi.ContainerStatus {
	w.t.Helper()
	w.eventually("it has exited", func() bool { return w.status(id).State == runtimeapi.ContainerState_CONTAINER_EXITED })
	return w.status(id)
}

func TestFakeRunFor(t *testing.T) {
	w := newWorld(t)
	_, id := w.run(w.pod("a"), w.container("main", fake.Script{RunFor: time.Hour, ExitCode: 3}))
	w.eventually("its script waits", w.clock.HasWaiters)
	w.clock.Step(time.Hour - time.Second)
	if st := w.status(id); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("too early: %v", st)
	}
	w.clock.Step(time.Second)
	st := w.exited(id)
	if st.ExitCode != 3 || st.Reason != "Error" || st.FinishedAt-st.StartedAt != int64(time.Hour) {
		t.Errorf("status = %v", st)
	}
}

func TestFakeReasons(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		script fake.Script
		code   int32
		reason string
	}{
		"done":  {fake.Script{}, 0, "Completed"},
		"error": {fake.Script{ExitCode: 9}, 9, "Error"},
		"oom":   {fake.Script{OOM: true, ExitCode: 137}, 137, "OOMKilled"},
	} {
		_, id := w.run(w.pod(name), w.container("main", tc.script))
		w.eventually("its script waits or is over", func() bool {
			w.clock.Step(time.Second)
			return w.status(id).State == runtimeapi.ContainerState_CONTAINER_EXITED
		})
		if st := w.status(id); st.ExitCode != tc.code || st.Reason != tc.reason {
			t.Errorf("%s: %v", name, st)
		}
	}
}

func TestFakeStartError(t *testing.T) {
	w := newWorld(t)
	pod := w.pod("a")
	sb, err := w.api.RunPodSandbox(t.Context(), pod, "")
	if err != nil {
		t.Fatal(err)
	}
	id, err := w.api.CreateContainer(t.Context(), sb, w.container("main", fake.Script{StartError: "no such file"}), pod)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.api.StartContainer(t.Context(), id); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("start: %v", err)
	}
	if st := w.status(id); st.ExitCode != 128 || st.Reason != "StartError" {
		t.Errorf("status = %v", st)
	}
}

func TestFakeSandboxErrors(t *testing.T) {
	w := newWorld(t)
	w.network.Fail(errors.New("no address is left"))
	if _, err := w.api.RunPodSandbox(t.Context(), w.pod("a"), ""); err == nil || !strings.Contains(err.Error(), "failed to setup network for sandbox") || !strings.Contains(err.Error(), "no address is left") {
		t.Errorf("without a network: %v", err)
	}
	st, err := w.api.Status(t.Context(), false)
	if err != nil || st.Status.Conditions[1].Status || !strings.Contains(st.Status.Conditions[1].Message, "no address is left") {
		t.Errorf("status = %v, %v", st, err)
	}
	w.network.Fail(nil)
	w.launcher.LaunchError = func(shim.SandboxSpec) error { return errors.New("fork: no memory") }
	if _, err := w.api.RunPodSandbox(t.Context(), w.pod("a"), ""); err == nil || !strings.Contains(err.Error(), "no memory") {
		t.Errorf("without a shim: %v", err)
	}
	w.launcher.LaunchError = nil
	if left := slices.Concat(w.network.Left(), w.images.Left()); len(left) > 0 || w.launcher.Running() > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := w.api.RunPodSandbox(t.Context(), w.pod("a"), "gvisor"); err == nil || !strings.Contains(err.Error(), `no runtime for "gvisor" is configured`) {
		t.Errorf("another handler: %v", err)
	}
	sb, err := w.api.RunPodSandbox(t.Context(), w.pod("a"), "")
	if err != nil {
		t.Fatal(err)
	}
	c := w.container("main", fake.Script{})
	c.Image.Image = "missing:1"
	if _, err := w.api.CreateContainer(t.Context(), sb, c, nil); status.Code(err) != codes.NotFound {
		t.Errorf("missing image: %v", err)
	}
}

// gated makes the next launch of a shim wait: entered is closed when it has begun, and it goes on when leave is closed.
func (w *world) gated() (entered, leave chan struct{}) {
	entered, leave = make(chan struct{}), make(chan struct{})
	w.launcher.LaunchError = func(shim.SandboxSpec) error {
		w.launcher.LaunchError = nil
		close(entered)
		<-leave
		return nil
	}
	return entered, leave
}

// sandboxes are the IDs of all sandboxes.
func (w *world) sandboxes() (ids []string) {
	w.t.Helper()
	list, err := w.api.ListPodSandbox(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range list {
		ids = append(ids, s.Id)
	}
	return ids
}

// TestFakeCallerOutOfTime has a create's caller run out of time: the next call gets what the first one made.
func TestFakeCallerOutOfTime(t *testing.T) {
	w := newWorld(t)
	entered, leave := w.gated()
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := w.api.RunPodSandbox(ctx, w.pod("a"), ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("first: %v", err)
	}
	<-entered
	second := make(chan string, 1)
	go func() {
		id, err := w.api.RunPodSandbox(t.Context(), w.pod("a"), "")
		if err != nil {
			t.Error(err)
		}
		second <- id
	}()
	close(leave)
	id := <-second
	if got := w.sandboxes(); len(got) != 1 || got[0] != id {
		t.Errorf("sandboxes = %v", got)
	}
}

// TestFakeCallerCancels has a create's caller cancel: once the call has returned, nothing is made any more and nothing
// is left. Another caller that came meanwhile gets a sandbox of its own.
func TestFakeCallerCancels(t *testing.T) {
	w := newWorld(t)
	entered, leave := w.gated()
	ctx, cancel := context.WithCancel(t.Context())
	call := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := w.api.RunPodSandbox(ctx, w.pod("a"), "")
			done <- err
		}()
		return done
	}
	first := call(ctx)
	<-entered
	cancel()
	select {
	case err := <-first:
		t.Errorf("the call returned while its sandbox was being made: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("first: %v", err)
	}
	if left := slices.Concat(w.sandboxes(), w.network.Left()); len(left) > 0 || w.launcher.Running() > 0 {
		t.Errorf("left: %v and %d shims", left, w.launcher.Running())
	}

	entered, leave = w.gated()
	ctx, cancel = context.WithCancel(t.Context())
	first = call(ctx)
	<-entered
	cancel()
	second := call(t.Context())
	close(leave)
	if err := <-first; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("first: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("second: %v", err)
	}
	if got := w.sandboxes(); len(got) != 1 {
		t.Errorf("sandboxes = %v", got)
	}
}

// A sandbox whose start failed and that could not be cleaned up stays known, and goes when it can.
func TestFakeFailedCleanUpIsNotForgotten(t *testing.T) {
	w := newWorld(t)
	w.network.FailTeardown(errors.New("the network is busy"))
	w.launcher.LaunchError = func(shim.SandboxSpec) error { return errors.New("fork: no memory") }
	if _, err := w.api.RunPodSandbox(t.Context(), w.pod("a"), ""); err == nil || !strings.Contains(err.Error(), "the network is busy") {
		t.Errorf("start: %v", err)
	}
	got := w.sandboxes()
	if len(got) != 1 {
		t.Fatalf("sandboxes = %v", got)
	}
	if err := w.api.RemovePodSandbox(t.Context(), got[0]); err == nil {
		t.Error("it was removed though its network is busy")
	}
	w.network.FailTeardown(nil)
	if err := w.api.RemovePodSandbox(t.Context(), got[0]); err != nil {
		t.Error(err)
	}
	if got := w.sandboxes(); len(got) != 0 {
		t.Errorf("sandboxes = %v", got)
	}
}

func TestFakeRestart(t *testing.T) {
	w := newWorld(t)
	sb, stays := w.run(w.pod("a"), w.container("stays", fake.Script{Forever: true}))
	_, ends := w.run(w.pod("b"), w.container("ends", fake.Script{RunFor: time.Minute, ExitCode: 2}))
	if err := w.r.Close(); err != nil {
		t.Fatal(err)
	}
	w.eventually("its script waits", w.clock.HasWaiters)
	w.clock.Step(time.Minute)
	w.open()
	if st := w.exited(ends); st.ExitCode != 2 {
		t.Errorf("ended meanwhile: %v", st)
	}
	if st := w.status(stays); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("stays: %v", st)
	}
	w.launcher.Sandbox(sb).Kill()
	if st := w.exited(stays); st.ExitCode != 137 {
		t.Errorf("its shim was killed: %v", st)
	}
	w.machine.Boot = "2"
	w.reopen()
	list, err := w.api.ListPodSandbox(t.Context(), &runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}})
	if err != nil || len(list) != 0 {
		t.Errorf("ready after a reboot: %v, %v", list, err)
	}
}

func TestFakeStop(t *testing.T) {
	w := newWorld(t)
	_, id := w.run(w.pod("a"), w.container("main", fake.Script{Forever: true, KillAfter: 5 * time.Second}))
	done := make(chan error, 1)
	go func() { done <- w.api.StopContainer(t.Context(), id, 30) }()
	// The clock has two waiters then: the grace period's and the process's own.
	w.eventually("it is dying", func() bool { return w.clock.Waiters() == 2 })
	w.clock.Step(5 * time.Second)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if st := w.status(id); st.ExitCode != 143 {
		t.Errorf("status = %v", st)
	}
}

func TestFakeStopTimeout(t *testing.T) {
	w := newWorld(t)
	_, id := w.run(w.pod("a"), w.container("main", fake.Script{Forever: true, IgnoreTerm: true}))
	done := make(chan error, 1)
	go func() { done <- w.api.StopContainer(t.Context(), id, 30) }()
	w.eventually("its grace period runs", w.clock.HasWaiters)
	w.clock.Step(29 * time.Second)
	if st := w.status(id); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("before the end of its grace period: %v", st)
	}
	w.clock.Step(time.Second)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if st := w.status(id); st.ExitCode != 137 {
		t.Errorf("status = %v", st)
	}
}

func TestFakeManySandboxes(t *testing.T) {
	w := newWorld(t)
	const n = 50
	errs := make(chan error, n)
	for i := range n {
		go func() {
			pod := w.pod(fmt.Sprint("p", i))
			sb, err := w.api.RunPodSandbox(t.Context(), pod, "")
			if err == nil {
				var id string
				if id, err = w.api.CreateContainer(t.Context(), sb, w.container("main", fake.Script{Forever: true}), pod); err == nil {
					err = w.api.StartContainer(t.Context(), id)
				}
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	w.reopen()
	list, err := w.api.ListContainers(t.Context(), &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}})
	if err != nil || len(list) != n {
		t.Errorf("%d containers run, %v", len(list), err)
	}
}
