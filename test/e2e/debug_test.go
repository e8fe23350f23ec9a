package e2e

import "testing"

// A terminal in a container that is put into a running Pod: it sees the processes of the one it is aimed at.
func TestDebugTerminal(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("app", "exec sleep 4567"))
	s.awaitRunning("app")
	shell := s.startTerminal("debug", "-it", "app", "--image="+shellImage, "--target=c0", "-c", "look", "--", "sh")
	shell.expect("If you don't see a command prompt, try pressing enter")
	shell.say("ps")
	shell.expect(`^\s*1 .*sleep 4567`)
	shell.say("exit")
	shell.expect("Session ended, the ephemeral container will not be restarted")
	if got := s.awaitRunning("app"); got.Status.ContainerStatuses[0].RestartCount != 0 {
		s.Errorf("the container that was looked at: %s", describe(got))
	}
	s.eventuallyEvent("app", "Started", "Container started")
	for _, e := range s.events(s.ns, "app") {
		if e.Reason == "Started" && e.InvolvedObject.FieldPath == "spec.ephemeralContainers{look}" {
			return
		}
	}
	s.Error("no event of the ephemeral container")
}
