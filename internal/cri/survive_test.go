package cri

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/shim"
)

func TestRestartKeepsContainers(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("stay")
	sb := w.runPod(pod)
	stays := w.run(sb, pod, w.sh("stays", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"))
	ends := w.run(sb, pod, w.sh("ends", "sleep 0.3; echo last; exit 9"))
	created := w.create(sb, pod, w.sh("created", "exit 0"))
	before := w.r.store.containers[stays].get()
	if err := w.r.Close(); err != nil {
		t.Fatal(err)
	}
	w.r.cancel()
	waitFor(t, filepath.Join(w.r.containerDir(ends), exitFile))
	w.open()

	if got := w.sandboxStatus(sb); got.State != runtimeapi.PodSandboxState_SANDBOX_READY || got.Network.Ip != "10.88.0.1" {
		t.Errorf("sandbox = %v", got)
	}
	after := w.r.store.containers[stays].get()
	if after.State != stateRunning || after.PID != before.PID || !after.StartedAt.Equal(before.StartedAt) {
		t.Errorf("container %+v is now %+v", before, after)
	}
	if st := w.exit(ends); st.ExitCode != 9 || st.Reason != "Error" || st.FinishedAt == 0 {
		t.Errorf("the one that ended meanwhile = %v", st)
	}
	if got := w.log(ends); got != "last\n" {
		t.Errorf("its log = %q", got)
	}
	if st := w.status(created); st.State != runtimeapi.ContainerState_CONTAINER_CREATED {
		t.Errorf("the created one = %v", st)
	}
	w.start(created)
	w.exit(created)
	n := strings.Count(w.log(stays), "\n")
	w.eventually("the log goes on", func() bool { return strings.Count(w.log(stays), "\n") > n+5 })
	var i int
	for line := range strings.Lines(w.log(stays)) { // without a gap
		if line != fmt.Sprintf("%d\n", i) {
			t.Fatalf("line %d of the log is %q", i, line)
		}
		i++
	}
	if out, _, err := w.api.ExecSync(t.Context(), stays, []string{"echo", "hi"}, time.Minute); err != nil || string(out) != "hi\n" {
		t.Errorf("exec after a restart: %q, %v", out, err)
	}
}

func waitFor(t *testing.T, file string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return
		}
	}
	t.Fatalf("%s did not appear", file)
}

// pids are the shim's and pause's.
func (w *world) pids(sandbox string) (shimPID, pausePID int) {
	w.t.Helper()
	st, err := w.r.store.sandboxes[sandbox].shim.State(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return st.Sandbox.ShimPID, st.Sandbox.PausePID
}

func (w *world) gone(pid int) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("process %d is gone", pid), func() bool {
		return errors.Is(unix.Kill(pid, 0), unix.ESRCH)
	})
}

func (w *world) notReady(sandbox string) {
	w.t.Helper()
	w.eventually("the sandbox is not ready", func() bool {
		return w.sandboxStatus(sandbox).State == runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	})
}

func TestShimKilled(t *testing.T) {
	for _, shared := range []bool{false, true} {
		for _, away := range []bool{false, true} {
			t.Run(fmt.Sprintf("sharedPID=%v/daemonAway=%v", shared, away), func(t *testing.T) {
				w := realWorld(t)
				pod, c := w.pod("shim"), w.sh("main", "sleep 1000 & sleep 1000")
				if shared {
					pod.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
					c.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
				}
				sb := w.runPod(pod)
				id := w.run(sb, pod, c)
				pid := w.r.store.containers[id].get().PID
				shimPID, pausePID := w.pids(sb)
				if away {
					if err := w.r.Close(); err != nil {
						t.Fatal(err)
					}
				}
				if err := unix.Kill(shimPID, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if away {
					w.gone(shimPID)
					w.open()
				}
				w.notReady(sb)
				if st := w.exit(id); st.ExitCode != 137 {
					t.Errorf("container = %v", st)
				}
				w.gone(pid)
				w.gone(pausePID)
				if err := w.api.StopPodSandbox(t.Context(), sb); err != nil {
					t.Error(err)
				}
				pod.Metadata.Attempt++
				w.runPod(pod) // its place can be taken
			})
		}
	}
}

func TestPauseKilled(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("pause")
	sb := w.runPod(pod)
	id := w.run(sb, pod, w.sh("main", "sleep 1000"))
	_, pausePID := w.pids(sb)
	if err := unix.Kill(pausePID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.notReady(sb)
	if _, err := w.api.CreateContainer(t.Context(), sb, w.sh("late", "true"), pod); err == nil {
		t.Error("a container was made in a sandbox without pause")
	}
	w.reopen()
	w.notReady(sb)
	if st := w.status(id); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("container = %v", st)
	}
	if err := w.api.StopPodSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	if st := w.exit(id); st.ExitCode != 137 {
		t.Errorf("container = %v", st)
	}
}

func TestContainerKilled(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("killed")
	sb := w.runPod(pod)
	id := w.run(sb, pod, w.sh("main", "sleep 1000"))
	if err := unix.Kill(w.r.store.containers[id].get().PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := w.exit(id); st.ExitCode != 137 || st.Reason != "Error" {
		t.Errorf("container = %v", st)
	}
	if st := w.sandboxStatus(sb); st.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		t.Errorf("sandbox = %v", st)
	}
}

// TestCutShort stops the daemon after each step of a sandbox's and a container's making: the next one removes all of it.
func TestCutShort(t *testing.T) {
	w := realWorld(t)
	ctx := t.Context()
	steps := []func(*sandbox) error{
		func(sb *sandbox) error { return w.r.recordSandbox(ctx, sb) },
		func(sb *sandbox) error { return w.r.writeSandboxFiles(ctx, sb) },
		func(sb *sandbox) error { return w.r.launchShim(ctx, sb) },
		func(sb *sandbox) error { return w.r.setUpNetwork(ctx, sb) },
	}
	for n := range len(steps) {
		pod := w.pod(fmt.Sprintf("cut%d", n))
		sb, err := w.r.newSandbox(sandboxKey(pod.Metadata), pod)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps[:n+1] {
			if err := step(sb); err != nil {
				t.Fatal(err)
			}
		}
		if sb.shim != nil {
			_ = sb.shim.Close()
		}
		w.reopen()
		if left := w.network.Left(); len(left) > 0 {
			t.Errorf("cut after step %d: network %v is left", n, left)
		}
		if left := names(filepath.Dir(w.r.shimDir("x"))); len(left) > 0 {
			t.Errorf("cut after step %d: shim %v is left", n, left)
		}
		if left := names(filepath.Dir(w.r.netNSFile("x"))); len(left) > 0 {
			t.Errorf("cut after step %d: network namespace %v is left", n, left)
		}
	}
	pod := w.pod("half")
	sb := w.r.store.sandboxes[w.runPod(pod)]
	c, img, err := w.r.newContainer(ctx, "key", sb, w.sh("main", "true"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.r.recordContainer(ctx, c, img), w.r.writeBundle(ctx, c, img)); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	if left := w.images.left(); len(left) > 0 {
		t.Errorf("snapshot %v is left", left)
	}
	// A start that nobody noted: the container runs, once.
	id := w.create(sb.ID, pod, w.sh("started", "echo once; sleep 1000"))
	if _, err := w.r.store.sandboxes[sb.ID].shim.Run(ctx, shim.RunRequest{
		ID: id, Dir: w.r.bundleDir(id), LogPath: w.r.store.containers[id].LogPath, ExitFile: filepath.Join(w.r.containerDir(id), exitFile)}); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	if st := w.status(id); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING || st.StartedAt == 0 {
		t.Errorf("container = %v", st)
	}
	w.start(id) // no second time
	w.eventually("it has said so", func() bool { return w.log(id) == "once\n" })
}

// rebooted is a machine that has another boot ID.
type rebooted struct{ Machine }

func (rebooted) BootID() (string, error) { return "another", nil }

func TestReboot(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("boot")
	sb := w.runPod(pod)
	id := w.run(sb, pod, w.sh("main", "sleep 1000"))
	done := w.run(sb, pod, w.sh("done", "exit 4"))
	w.exit(done)
	r := w.r.store.sandboxes[sb]
	if err := r.shim.Stop(t.Context()); err != nil { // the machine is off
		t.Fatal(err)
	}
	exit := filepath.Join(w.r.containerDir(id), exitFile)
	if err := w.r.Close(); err != nil {
		t.Fatal(err)
	}
	// What the runtime saw while the machine went down is forgotten: it saw nothing.
	restoreRunning(t, w, id, sb)
	if err := os.Remove(exit); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.cfg.Paths.Run + "/sandboxes"); err != nil {
		t.Fatal(err)
	}
	m, err := newMachine()
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.Machine = rebooted{m}
	w.open()
	if st := w.sandboxStatus(sb); st.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("sandbox = %v", st)
	}
	if st := w.status(id); st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.ExitCode != 255 || st.Reason != "Unknown" {
		t.Errorf("container = %v", st)
	}
	if st := w.status(done); st.ExitCode != 4 {
		t.Errorf("container that had ended = %v", st)
	}
	pod.Metadata.Attempt++
	w.runPod(pod)
}

// restoreRunning writes the earlier states into the records.
func restoreRunning(t *testing.T, w *world, container, sandbox string) {
	t.Helper()
	var c containerState
	var sb sandboxState
	if err := errors.Join(load(w.r.containerDir(container), stateFile, &c), load(w.r.sandboxDir(sandbox), stateFile, &sb)); err != nil {
		t.Fatal(err)
	}
	c.State, sb.Ready = stateRunning, true
	if err := errors.Join(save(w.r.containerDir(container), stateFile, c), save(w.r.sandboxDir(sandbox), stateFile, sb)); err != nil {
		t.Fatal(err)
	}
}

// victimEnv names the folder that TestVictim works in; without it that test does nothing.
const victimEnv = "PODIUM_TEST_VICTIM"

// TestVictim is the daemon that TestKillDaemon kills: it runs and removes Pods without end.
func TestVictim(t *testing.T) {
	dir := os.Getenv(victimEnv)
	if dir == "" {
		t.Skip("is run by TestKillDaemon")
	}
	w := openAt(t, dir)
	for n := 0; ; n++ {
		pod := w.pod(fmt.Sprintf("victim%d", n))
		sb := w.runPod(pod)
		w.run(sb, pod, w.sh("main", "sleep 1000"))
		if n%2 == 1 {
			if err := w.api.StopPodSandbox(t.Context(), sb); err != nil {
				t.Fatal(err)
			}
			if err := w.api.RemovePodSandbox(t.Context(), sb); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// openAt opens a world whose folder another process has used, or will.
func openAt(t *testing.T, dir string) *world {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox")
	}
	w := newWorldAt(t, dir, busybox)
	w.open()
	return w
}

// TestKillDaemon kills a daemon with SIGKILL at random moments of starts and removals. What the next one finds is
// whole: every sandbox ready with its container running or created, and everything can be removed.
func TestKillDaemon(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	builtShims(t) // the victim would skip, and leave nothing to kill
	dir := t.TempDir()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$", "-test.count=1")
		cmd.Env = append(os.Environ(), victimEnv+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p := paths.For(dir)
		waitFor(t, filepath.Join(p.Runtime, "sandboxes"))
		begun := len(names(filepath.Join(p.Runtime, "sandboxes")))
		for end := time.Now().Add(patience); time.Now().Before(end) && len(names(filepath.Join(p.Runtime, "sandboxes"))) <= begun; time.Sleep(time.Millisecond) {
		}
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		w := openAt(t, dir)
		for _, sb := range w.r.store.allSandboxes() {
			if st := sb.get(); st.Ready && sb.shim == nil {
				t.Errorf("round %d: sandbox %s is ready without a shim", round, sb.ID)
			}
		}
		for _, c := range w.r.store.allContainers() {
			st := c.get()
			if st.State == stateRunning && unix.Kill(st.PID, 0) != nil {
				t.Errorf("round %d: container %s runs without a process", round, c.ID)
			}
			if st.State == stateExited && st.ExitCode != 137 {
				t.Errorf("round %d: container %s ended by itself: %+v", round, c.ID, st)
			}
		}
		w.images.adopt()
		if round == rounds-1 {
			w.checkClean()
			return
		}
		if err := w.r.Close(); err != nil {
			t.Error(err)
		}
	}
}
