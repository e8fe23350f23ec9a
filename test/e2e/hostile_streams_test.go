package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A container writes its log as fast as it can: at no time does it take more than the files that are kept.
func TestHostileLogFlood(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	const size, files = 10 << 20, 5 // containerLogMaxSize, containerLogMaxFiles
	pod := shellPod("flood", "yes 0123456789012345678901234567890123456789 | head -c 400000000")
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	made := s.create(pod)
	folder := filepath.Join(n.paths.PodLogs, fmt.Sprintf("%s_%s_%s", made.Namespace, made.Name, made.UID), "c0")
	done, most := make(chan struct{}), make(chan int64)
	go func() {
		var max int64
		for {
			var sum int64
			entries, _ := os.ReadDir(folder)
			for _, e := range entries {
				if info, err := e.Info(); err == nil {
					sum += info.Size()
				}
			}
			if sum > max {
				max = sum
			}
			select {
			case <-done:
				most <- max
				return
			default:
			}
		}
	}()
	s.awaitPhase("flood", corev1.PodSucceeded)
	close(done)
	// One more for a file that is being compressed, and for one that is listed just as it is put aside.
	if got := <-most; got > (files+1)*size || got < size {
		t.Errorf("the log took %d MiB, at most %d files of %d MiB are right", got>>20, files, size>>20)
	}
}

// Who follows a log while it is put aside again and again reads every line once, and the end of it when the container
// ends.
func TestHostileLogFloodFollowed(t *testing.T) {
	s := newSpace(t)
	const rounds, lines = 30, 20_000 // 35 MiB of log
	pod := shellPod("count", fmt.Sprintf("echo 0; read go; i=0; while [ $i -lt %d ]; do seq $((i*%d+1)) $(((i+1)*%d)); i=$((i+1)); sleep 0.2; done", rounds, lines, lines))
	pod.Spec.Containers[0].Stdin = true
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	s.create(pod)
	s.awaitRunning("count")
	cmd := s.kubectlCommand("logs", "-f", "count")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	next, scan := 0, bufio.NewScanner(out)
	for scan.Scan() {
		if got := scan.Text(); got != strconv.Itoa(next) {
			t.Fatalf("after line %d comes %q", next-1, got)
		}
		if next == 0 {
			if out, err := s.tryInput("go\n", "attach", "-i", "-q", "count", "--pod-running-timeout=1m"); err != nil && !strings.Contains(out, "not read fast enough") {
				t.Logf("attach: %v", err) // it is cut off when it does not keep up, which is not what this is about
			}
		}
		next++
	}
	if err := cmd.Wait(); err != nil || next != rounds*lines+1 {
		t.Errorf("read %d lines of %d (%v)", next, rounds*lines+1, err)
	}
}

// The Pod is deleted while its log is followed: all of the log comes, and then a clean end.
func TestFollowWhilePodIsDeleted(t *testing.T) {
	s := newSpace(t)
	var all sync.WaitGroup
	for i := range 6 {
		name := fmt.Sprintf("p%d", i)
		s.create(shellPod(name, "trap 'echo last; exit 0' TERM; echo first; while true; do sleep 0.05; done"))
		s.awaitRunning(name)
		f := s.start("logs", "-f", name)
		f.expect("^first$")
		all.Go(func() {
			args := []string{"delete", "pod", name}
			want := "[first last]"
			if i%3 == 2 {
				args, want = append(args, "--force", "--grace-period=0"), "[first"
			}
			if out, err := s.try(args...); err != nil {
				t.Errorf("delete: %v\n%s", err, out)
			}
			if err := f.end(); err != nil || !strings.HasPrefix(fmt.Sprint(f.all), want) || strings.Contains(fmt.Sprint(f.all), "rror") {
				t.Errorf("%s: followed until it was deleted (%v):\n%s", name, err, strings.Join(f.all, "\n"))
			}
		})
	}
	all.Wait()
}

// `kubectl run --rm -i` of a command that is over at once: the attachment comes when the container is about to end, or
// has ended. Its output comes all the same, every time.
func TestRunAttachedAtTheEnd(t *testing.T) {
	s := newSpace(t)
	runs := 24
	if n, err := strconv.Atoi(os.Getenv("PODIUM_ATTACH_RUNS")); err == nil {
		runs = n
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, 3)
	for i := range runs {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			name := fmt.Sprintf("x%d", i)
			cmd := s.kubectlCommand("run", name, "--image="+shellImage, "--restart=Never", "-i", "--rm", "-q", "--command", "--", "echo", "hi")
			var errs strings.Builder
			cmd.Stderr = &errs
			// kubectl asks for the log before it attaches and, when that fails, for the log since then, which it counts in
			// whole seconds: what was printed in that second comes twice.
			if out, err := cmd.Output(); err != nil || string(out) != "hi\n" && string(out) != "hi\nhi\n" {
				t.Errorf("run %d printed %q (%v)\n%s", i, out, err, errs.String())
			}
		})
	}
	all.Wait()
}

// Clients that are attached and read nothing: the container goes on, its log is whole, and they are told why they were
// let go.
func TestHostileAttachThatDoesNotRead(t *testing.T) {
	s := newSpace(t)
	const lines = 60_000 // of 1 KiB: far more than all buffers between here and there
	line := strings.Repeat("x", 1000)
	pod := shellPod("loud", fmt.Sprintf("read go; yes %s | head -n %d; echo over", line, lines))
	pod.Spec.Containers[0].Stdin = true
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	s.create(pod)
	s.awaitRunning("loud")
	var stuck []*session
	for range 3 {
		k := s.start("attach", "-i", "loud")
		k.expect("try pressing enter|All commands and output")
		stuck = append(stuck, k)
	}
	stuck[0].say("go")
	stuck[0].expect("^x+$")
	for _, k := range stuck {
		if err := k.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	s.awaitPhase("loud", corev1.PodSucceeded)
	if out := s.kubectl("logs", "loud", "--tail=1"); out != "over\n" {
		t.Errorf("the log ends with %q", out)
	}
	for _, k := range stuck {
		if err := k.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		err := k.end()
		if said := k.all[len(k.all)-1]; err == nil || !strings.Contains(said, "does not read fast enough") {
			t.Errorf("a client that did not read is told %.200q (%v)", said, err)
		}
	}
}

// A liveness probe whose background child holds the output, in silence or not, fails at its time-out.
func TestHostileProbeThatHoldsItsOutput(t *testing.T) {
	s := newSpace(t)
	for name, child := range map[string]string{"silent": "sleep 3600", "loud": "while true; do echo x; sleep 0.1; done"} {
		pod := shellPod(name, "exec sleep 3600")
		pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "(" + child + ") & exit 0"}}},
			PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 1,
		}
		s.create(pod)
	}
	for _, name := range []string{"silent", "loud"} {
		s.await(name, "restarted", func(p *corev1.Pod) bool {
			return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount > 0
		})
		s.eventuallyEvent(name, "Unhealthy", "timed out after 1s")
	}
}

// Probes and hooks that print much: the daemon keeps little of it.
func TestHostileProbeOutput(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	const containers, output = 4, 16 << 20
	command := []string{"sh", "-c", fmt.Sprintf("head -c %d /dev/zero; head -c %d /dev/zero >&2", output, output)}
	warm := shellPod("warm", "exec sleep 3600")
	s.create(warm)
	s.awaitRunning("warm")
	status := fmt.Sprintf("/proc/%d/status", n.pid(t))
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.pid(t)), []byte("5"), 0); err != nil { // forget the peak
		t.Fatal(err)
	}
	before := memoryOf(t, status, "VmRSS:")
	scripts := make([]string, containers)
	for i := range scripts {
		scripts[i] = "exec sleep 3600"
	}
	pod := shellPod("loud", scripts...)
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: command}}, PeriodSeconds: 60, TimeoutSeconds: 120}
		c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: command}}}
	}
	s.create(pod)
	s.awaitRunning("loud")
	peak := memoryOf(t, status, "VmHWM:")
	// The daemon's own work for a Pod is some MiB; it was four times the output before.
	if grown := peak - before; grown > containers*2*output/2 {
		t.Errorf("the daemon grew by %d MiB for %d MiB of output", grown>>20, containers*4*output>>20)
	}
}

// memoryOf reads a line of a process's status, in bytes.
func memoryOf(t *testing.T, file, field string) int64 {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no %s in %s", field, file)
	return 0
}

// A probe and a hook whose server answers with a header without an end.
func TestHostileProbeHeader(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	const size = 8 << 20
	script := fmt.Sprintf("while true; do (printf 'HTTP/1.1 200 OK\\r\\nX: '; head -c %d /dev/zero | tr '\\0' x; printf '\\r\\n\\r\\n') | nc -l -p 8080; done", size)
	pod := shellPod("endless", script)
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(8080)}},
		PeriodSeconds: 1, TimeoutSeconds: 10,
	}
	s.create(pod)
	s.eventuallyEvent("endless", "Unhealthy", "exceeded")
}
