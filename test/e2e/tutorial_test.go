package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The first steps of the README, as a user types them.
func TestTutorial(t *testing.T) {
	s := newSpace(t)
	if out := s.kubectl("run", "webserver", "--image="+webImage); out != "pod/webserver created\n" {
		s.Errorf("kubectl run printed %q", out)
	}
	s.apply(`
apiVersion: v1
kind: Pod
metadata: {name: multipod}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: "` + webImage + `"}
  - {name: shell, image: "` + shellImage + `", stdin: true, tty: true}
`)
	web := s.awaitRunning("webserver")
	multi := s.awaitRunning("multipod")

	table := s.kubectl("get", "pods")
	for _, row := range []string{`NAME\s+READY\s+STATUS\s+RESTARTS\s+AGE\n`, `multipod\s+2/2\s+Running\s+0\s+\d+s\n`, `webserver\s+1/1\s+Running\s+0\s+\d+s\n`} {
		if !regexp.MustCompile(row).MatchString(table) {
			s.Errorf("get pods has no row like %s:\n%s", row, table)
		}
	}
	wide := s.kubectl("get", "pods", "-o", "wide")
	for _, text := range []string{"IP", "NODE", "NOMINATED NODE", "READINESS GATES", web.Status.PodIP, s.node.name()} {
		if !strings.Contains(wide, text) {
			s.Errorf("get pods -o wide has no %q:\n%s", text, wide)
		}
	}
	if body := get(s, "http://"+web.Status.PodIP); !strings.Contains(body, "<html") {
		s.Errorf("from the host: %q", body)
	}
	for _, ip := range []string{"localhost:80", web.Status.PodIP} {
		if out := s.kubectl("exec", "multipod", "-c", "shell", "--", "wget", "-q", "-O", "-", "http://"+ip); !strings.Contains(out, "<html") {
			s.Errorf("from another container, %s: %q", ip, out)
		}
	}
	if out := s.kubectl("logs", "multipod", "-c", "web"); !strings.Contains(out, "GET /") {
		s.Errorf("the log has no request:\n%s", out)
	}
	described := s.kubectl("describe", "pod", "multipod")
	for _, text := range []string{"Scheduled", "Pulled", "Created", "Started", "Successfully assigned " + s.ns + "/multipod to " + s.node.name(), multi.Status.PodIP} {
		if !strings.Contains(described, text) {
			s.Errorf("describe has no %q:\n%s", text, described)
		}
	}
	s.kubectl("delete", "pod", "webserver", "--grace-period=1")
	s.awaitGone("webserver")
}

// get answers with a page, in lower case, as soon as a server is there for it: a container that has just been
// started may not listen yet.
func get(s *space, url string) (page string) {
	s.Helper()
	s.eventually(url+" answers", func() error {
		ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		page = strings.ToLower(string(body))
		return err
	})
	return page
}

// A container that ends at once is restarted, backs off, and the table says so in kubectl's form.
func TestCrashLoop(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("crash", "exit 0"))
	s.await("crash", "in CrashLoopBackOff after 2 restarts", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount >= 2 &&
			p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == "CrashLoopBackOff"
	})
	if out := s.kubectl("get", "pods"); !regexp.MustCompile(`crash\s+0/1\s+(CrashLoopBackOff|Completed)\s+\d+ \(\d+s ago\)\s`).MatchString(out) {
		s.Errorf("get pods:\n%s", out)
	}
	pod := s.await("crash", "with a last state", func(p *corev1.Pod) bool {
		return p.Status.ContainerStatuses[0].LastTerminationState.Terminated != nil
	})
	if last := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; last.ExitCode != 0 || last.Reason != "Completed" {
		s.Errorf("last state: %+v", last)
	}
}

func TestRestartPolicies(t *testing.T) {
	s := newSpace(t)
	for name, tc := range map[string]struct {
		policy corev1.RestartPolicy
		script string
		phase  corev1.PodPhase
		code   int32
	}{
		"never-ok":     {corev1.RestartPolicyNever, "exit 0", corev1.PodSucceeded, 0},
		"never-fails":  {corev1.RestartPolicyNever, "exit 3", corev1.PodFailed, 3},
		"onfailure-ok": {corev1.RestartPolicyOnFailure, "exit 0", corev1.PodSucceeded, 0},
	} {
		pod := shellPod(name, tc.script)
		pod.Spec.RestartPolicy = tc.policy
		s.create(pod)
		defer func() {
			got := s.awaitPhase(name, tc.phase)
			if st := got.Status.ContainerStatuses[0].State.Terminated; st == nil || st.ExitCode != tc.code || st.StartedAt.IsZero() || st.FinishedAt.IsZero() {
				s.Errorf("%s: %s", name, describe(got))
			}
		}()
	}
	pod := shellPod("onfailure-fails", "exit 1")
	pod.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	s.create(pod)
	s.await("onfailure-fails", "restarted", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
}

func TestLogs(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("talk", "for i in 1 2 3 4 5; do echo line $i; done; exec sleep 3600", "echo other; echo oops >&2; exec sleep 3600")
	s.create(pod)
	s.awaitRunning("talk")
	s.eventually("the log is whole", func() error {
		if out := s.kubectl("logs", "talk", "-c", "c0"); strings.Contains(out, "line 5") {
			return nil
		}
		return fmt.Errorf("not yet")
	})
	if out := s.kubectl("logs", "talk", "-c", "c0", "--tail=2"); strings.Count(out, "\n") != 2 {
		s.Errorf("--tail=2: %q", out)
	}
	if out := s.kubectl("logs", "talk", "-c", "c0", "--limit-bytes=6"); out != "line 1" {
		s.Errorf("--limit-bytes=6: %q", out)
	}
	if out := s.kubectl("logs", "talk", "-c", "c0", "--timestamps", "--tail=1"); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+Z \S`).MatchString(out) {
		s.Errorf("--timestamps: %q", out)
	}
	out := s.kubectl("logs", "talk", "--all-containers", "--prefix")
	for _, text := range []string{"[pod/talk/c0] line 1", "[pod/talk/c1] other", "[pod/talk/c1] oops"} {
		if !strings.Contains(out, text) {
			s.Errorf("--all-containers --prefix has no %q:\n%s", text, out)
		}
	}
	// Two containers and no -c: the first is meant, and kubectl says so.
	if out := s.kubectl("logs", "talk"); !strings.Contains(out, `Defaulted container "c0" out of: c0, c1`) {
		s.Errorf("logs with no -c: %q", out)
	}
}

func TestLogsFollowAndPrevious(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("once", "echo run"))
	s.await("once", "restarted", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
	if out := s.kubectl("logs", "once", "-p"); out != "run\n" {
		s.Errorf("logs -p: %q", out)
	}

	s.create(shellPod("slow", "i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo tick $i; sleep 0.05; done; while [ ! -e /tmp/end ]; do sleep 0.05; done"))
	s.awaitRunning("slow")
	follow := s.start("logs", "-f", "slow")
	for i := 1; i <= 20; i++ {
		if line, _ := follow.next(); line != fmt.Sprintf("tick %d", i) {
			s.Fatalf("line %d is %q", i, line)
		}
	}
	// The log that is followed ends with its container.
	s.kubectl("exec", "slow", "--", "touch", "/tmp/end")
	if err := follow.end(); err != nil {
		s.Errorf("the followed log ended with %v:\n%s", err, strings.Join(follow.all, "\n"))
	}
}

func TestExec(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("box", "sleep 3600"))
	s.awaitRunning("box")
	if out := s.kubectl("exec", "box", "--", "echo", "hello there"); out != "hello there\n" {
		s.Errorf("exec: %q", out)
	}
	if out, err := s.tryInput("through stdin", "exec", "-i", "box", "--", "cat"); err != nil || out != "through stdin" {
		s.Errorf("exec -i: %q, %v", out, err)
	}
	out, err := s.try("exec", "box", "--", "sh", "-c", "exit 7")
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 7 {
		s.Errorf("exit 7: %v\n%s", err, out)
	}
	s.refused([]string{"exec", "box", "--", "nosuchprogram"}, "executable file not found")
}

func TestCopy(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("box", "sleep 3600"))
	s.awaitRunning("box")
	dir := s.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	text := strings.Repeat("all work and no play\n", 5000)
	if err := os.WriteFile(from, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	s.kubectl("cp", from, "box:/tmp/there")
	s.kubectl("cp", "box:/tmp/there", to)
	if got, err := os.ReadFile(to); err != nil || string(got) != text {
		s.Errorf("came back with %d bytes, %v", len(got), err)
	}
}

func TestPortForward(t *testing.T) {
	s := newSpace(t)
	s.kubectl("run", "web", "--image="+webImage)
	s.awaitRunning("web")
	forward := s.start("port-forward", "web", ":80", ":81")
	local := map[string]string{}
	for len(local) < 2 {
		m := forward.expect(`Forwarding from (127\.0\.0\.1:\d+) -> (\d+)`)
		local[m[2]] = m[1]
	}
	if body := get(s, "http://"+local["80"]); !strings.Contains(body, "<html") {
		s.Errorf("through the tunnel: %q", body)
	}
	// A port where nobody listens: the connection ends, and kubectl says why.
	if resp, err := http.Get("http://" + local["81"]); err == nil {
		resp.Body.Close()
		s.Error("a closed port answered")
	}
	forward.expect("onnection refused")
}
