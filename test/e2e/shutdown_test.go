package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	corev1 "k8s.io/api/core/v1"
)

const systemBus = `<busconfig>
  <type>system</type>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>`

// logind is as much of systemd-logind as a node asks of it, on a system bus of the test's own.
type logind struct {
	conn  *dbus.Conn
	locks chan *os.File // readable once the lock is let go
}

func newLogind(t *testing.T) *logind {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("needs dbus-daemon (apt-get install dbus-daemon)")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "bus")
	settings := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(settings, []byte(strings.ReplaceAll(systemBus, "SOCKET", socket)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(daemon, "--config-file="+settings, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	conn, err := dbus.Connect("unix:path=" + socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	l := &logind{conn: conn, locks: make(chan *os.File, 4)}
	for _, iface := range []string{"org.freedesktop.login1.Manager", "org.freedesktop.DBus.Properties"} {
		if err := conn.Export(l, "/org/freedesktop/login1", iface); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.RequestName("org.freedesktop.login1", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return l
}

// Get answers for the one property that is asked for: InhibitDelayMaxUSec.
func (l *logind) Get(string, string) (dbus.Variant, *dbus.Error) {
	return dbus.MakeVariant(uint64(time.Hour / time.Microsecond)), nil
}

// Inhibit hands out a lock.
func (l *logind) Inhibit(_, _, _, _ string) (dbus.UnixFD, *dbus.Error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l.locks <- r
	fd := dbus.UnixFD(w.Fd())
	time.AfterFunc(time.Second, func() { _ = w.Close() }) // the message takes a copy a moment later
	return fd, nil
}

func (l *logind) say(t *testing.T, begins bool) {
	t.Helper()
	if err := l.conn.Emit("/org/freedesktop/login1", "org.freedesktop.login1.Manager.PrepareForShutdown", begins); err != nil {
		t.Fatal(err)
	}
}

func (l *logind) lock(t *testing.T) *os.File {
	t.Helper()
	select {
	case r := <-l.locks:
		return r
	case <-time.After(patience):
		t.Fatal("the node does not delay shutdowns")
		return nil
	}
}

// The machine is shut down: Pods end by priority, each in its time, the node takes no more and says so; when it is
// called off, it does again. It is not parallel, for the bus is named by the environment.
func TestShutdownOfTheMachine(t *testing.T) {
	l := newLogind(t)
	n := configuredNode(t, "shutdownGracePeriod: 20s\nshutdownGracePeriodCriticalPods: 10s\nevictionHard: {memory.available: 100Mi}\n")
	s := newSpaceOn(t, n)
	held := l.lock(t)
	// Each notes when it is told to end, in a file that outlives it.
	notes := s.TempDir()
	noting := func(name, class string) {
		pod := shellPod(name, "trap 'echo > /notes/"+name+"; exit 0' TERM; while :; do sleep 0.1; done")
		pod.Spec.PriorityClassName = class
		pod.Spec.Volumes = []corev1.Volume{{Name: "notes", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: notes}}}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "notes", MountPath: "/notes"}}
		s.create(pod)
		s.awaitRunning(name)
	}
	noting("plain", "")
	noting("critical", "system-node-critical")

	l.say(t, true)
	for _, name := range []string{"plain", "critical"} {
		got := s.awaitPhase(name, corev1.PodFailed)
		if got.Status.Reason != "Terminated" || got.Status.Message != "Pod was terminated in response to imminent node shutdown." {
			t.Errorf("%s: %s", name, describe(got))
		}
		s.await(name, "marked as disrupted", func(p *corev1.Pod) bool {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.DisruptionTarget {
					return c.Status == corev1.ConditionTrue && c.Reason == "TerminationByKubelet"
				}
			}
			return false
		})
	}
	told := func(name string) time.Time {
		s.readText(filepath.Join(notes, name))
		info, err := os.Stat(filepath.Join(notes, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	if !told("plain").Before(told("critical")) {
		t.Errorf("the critical Pod was told at %s, the other at %s", told("critical"), told("plain"))
	}
	_ = held.SetReadDeadline(time.Now().Add(patience))
	if _, err := held.Read(make([]byte, 1)); os.IsTimeout(err) {
		t.Error("the shutdown is still held up")
	}
	ready := func() corev1.NodeCondition {
		for _, c := range s.theNode().Status.Conditions {
			if c.Type == corev1.NodeReady {
				return c
			}
		}
		return corev1.NodeCondition{}
	}
	s.eventually("the node says that it is shutting down", func() error {
		if c := ready(); c.Status != corev1.ConditionFalse || c.Reason != "KubeletNotReady" || c.Message != "node is shutting down" {
			return errorOf(c)
		}
		return nil
	})
	late := shellPod("late", "exec sleep 3600")
	late.Spec.NodeName = n.name()
	s.create(late)
	if got := s.awaitPhase("late", corev1.PodFailed); got.Status.Reason != "NodeShutdown" || got.Status.Message != "Pod was rejected: Pod was rejected as the node is shutting down." {
		t.Error(describe(got))
	}

	l.say(t, false)
	l.lock(t)
	s.eventually("the node is ready again", func() error {
		if c := ready(); c.Status != corev1.ConditionTrue {
			return errorOf(c)
		}
		return nil
	})
	s.create(shellPod("after", "exec sleep 3600"))
	s.awaitRunning("after")
}

func errorOf(c corev1.NodeCondition) error {
	return fmt.Errorf("it is %s for %s: %s", c.Status, c.Reason, c.Message)
}
