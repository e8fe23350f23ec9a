package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// `get pods -w` prints a line for each state that a Pod goes through.
func TestWatchLineByLine(t *testing.T) {
	s := newSpace(t)
	// The watch begins with a Pod that is there, so that its header has been printed.
	s.create(shellPod("first", "exec sleep 3600"))
	s.awaitRunning("first")
	watch := s.start("get", "pods", "-w")
	watch.expect(`^NAME\s+READY\s+STATUS\s+RESTARTS\s+AGE$`)
	watch.expect(`^first\s+1/1\s+Running\s+0\s+\d+s$`)
	s.create(shellPod("second", "trap 'exit 0' TERM; while true; do sleep 0.05; done"))
	var states []string
	until := func(last string) {
		for {
			status := watch.expect(`^second\s+\d/1\s+(\S+)\s+0\s+\S+$`)[1]
			if len(states) == 0 || states[len(states)-1] != status {
				states = append(states, status)
			}
			if status == last {
				return
			}
		}
	}
	until("Running")
	if want := []string{"Pending", "ContainerCreating", "Running"}; !slices.Equal(states, want) {
		s.Errorf("the states were %v, want %v", states, want)
	}
	s.kubectl("delete", "pod", "second", "--wait=false")
	until("Terminating")
	s.awaitGone("second")
}

func TestAttach(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("talk", "while read line; do echo you said $line; done")
	pod.Spec.Containers[0].Stdin = true
	s.create(pod)
	s.awaitRunning("talk")
	one := s.start("attach", "-i", "talk")
	other := s.start("attach", "talk")
	one.say("hello")
	one.expect("^you said hello$")
	// What is said before another has attached is in the log only: say it until it is heard.
	s.eventually("a second one hears it too", func() error {
		one.say("again")
		select {
		case line := <-other.lines:
			if strings.Contains(line, "you said again") {
				return nil
			}
			return fmt.Errorf("heard %q", line)
		default:
			return fmt.Errorf("heard nothing")
		}
	})
	s.says([]string{"logs", "talk"}, "you said hello")
}

// A terminal: the shell knows that it has one, echoes, and takes on the window's size.
func TestTerminal(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("box", "exec sleep 3600"))
	s.awaitRunning("box")
	shell := s.startTerminal("exec", "-it", "box", "--", "sh")
	shell.say("tty")
	shell.expect(`^/dev/pts/\d+$`)
	shell.say("echo $((6*7)) of them")
	shell.expect("^42 of them$")
	shell.say("exit 3")
	if err := shell.end(); err == nil || err.Error() != "exit status 3" {
		s.Errorf("the shell's exit code came back as %v", err)
	}

	pod := shellPod("screen", "exec sh")
	pod.Spec.Containers[0].Stdin, pod.Spec.Containers[0].TTY = true, true
	s.create(pod)
	s.awaitRunning("screen")
	attached := s.startTerminal("attach", "-it", "screen")
	attached.say("echo $((6*7)) of them")
	attached.expect("^42 of them$")
}

// `kubectl run -it --rm`: attached as soon as it runs, its output whole, gone afterwards.
func TestRunAttached(t *testing.T) {
	s := newSpace(t)
	out, err := s.tryInput("three\nwords\n", "run", "once", "--image="+shellImage, "--rm", "-i", "--restart=Never", "--command", "--", "sh", "-c", "cat; exit 0")
	if err != nil || !strings.Contains(out, "words\n") || !strings.Contains(out, `pod "once" deleted`) {
		s.Errorf("run --rm -i: %v\n%s", err, out)
	}
	s.awaitGone("once")
}

func TestLogsSinceAndFollowAll(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("two", "echo from c0; exec sleep 3600", "echo from c1; exec sleep 3600"))
	s.awaitRunning("two")
	all := s.start("logs", "-f", "two", "--all-containers", "--prefix")
	for range 2 {
		all.expect(`^\[pod/two/c[01]\] from c[01]$`)
	}
	if out := s.kubectl("logs", "two", "-c", "c0", "--since=1h"); out != "from c0\n" {
		s.Errorf("--since=1h: %q", out)
	}
	if out := s.kubectl("logs", "two", "-c", "c0", "--since-time=2200-01-01T00:00:00Z"); out != "" {
		s.Errorf("--since-time in the future: %q", out)
	}
	// With a selector, over several Pods.
	other := shellPod("labelled", "echo from labelled; exec sleep 3600")
	other.Labels = map[string]string{"app": "x"}
	s.create(other)
	s.awaitRunning("labelled")
	s.eventually("the selector finds it", func() error {
		if out := s.kubectl("logs", "-l", "app=x"); out != "from labelled\n" {
			return fmt.Errorf("%q", out)
		}
		return nil
	})
}

// A Pod that the scheduler finds no room for says why, and runs when it is told another node will do.
func TestFailedScheduling(t *testing.T) {
	s := newSpace(t)
	s.apply(`
apiVersion: v1
kind: Pod
metadata: {name: big}
spec:
  containers:
  - {name: c, image: "` + shellImage + `", resources: {requests: {memory: 900Ti}}}
`)
	s.await("big", "unschedulable", func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable {
				return strings.Contains(c.Message, "0/1 nodes are available: 1 Insufficient memory.")
			}
		}
		return false
	})
	s.eventuallyEvent("big", "FailedScheduling", "0/1 nodes are available: 1 Insufficient memory.")
	s.kubectl("delete", "pod", "big")

	picky := shellPod("picky", "exec sleep 3600")
	picky.Spec.NodeSelector = map[string]string{"e2e-" + s.ns: "yes"}
	s.create(picky)
	s.eventuallyEvent("picky", "FailedScheduling", "1 node(s) didn't match Pod's node affinity/selector")
	s.kubectl("label", "node", s.node.name(), "e2e-"+s.ns+"=yes")
	s.awaitRunning("picky")
	s.kubectl("label", "node", s.node.name(), "e2e-"+s.ns+"-")
}
