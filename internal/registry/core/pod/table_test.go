package pod

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

var now = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// What containers are made of in the cases below.
type option func(*corev1.ContainerStatus)

func container0(name string, options ...option) corev1.ContainerStatus {
	c := corev1.ContainerStatus{Name: name}
	for _, o := range options {
		o(&c)
	}
	return c
}

func running(c *corev1.ContainerStatus) {
	c.Ready, c.State = true, corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func unready(c *corev1.ContainerStatus) {
	c.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func started(c *corev1.ContainerStatus) { c.Started = ptr.To(true) }

func waiting(reason string) option {
	return func(c *corev1.ContainerStatus) {
		c.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
}

func ended(code, signal int32, reason string) option {
	return func(c *corev1.ContainerStatus) {
		c.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Signal: signal, Reason: reason}}
	}
}

func restarted(times int32, last time.Duration) option {
	return func(c *corev1.ContainerStatus) {
		c.RestartCount = times
		if last > 0 {
			c.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{FinishedAt: ago(last)}
		}
	}
}

func condition(kind corev1.PodConditionType, status corev1.ConditionStatus, reason string) corev1.PodCondition {
	return corev1.PodCondition{Type: kind, Status: status, Reason: reason}
}

func TestStatusOfRow(t *testing.T) {
	type list = []corev1.ContainerStatus
	initialized := condition(corev1.PodInitialized, corev1.ConditionTrue, "")
	ready := condition(corev1.PodReady, corev1.ConditionTrue, "")
	for _, tc := range []struct {
		name                    string
		init                    list
		containers              list
		sidecars                []string
		phase                   corev1.PodPhase
		reason                  string
		conditions              []corev1.PodCondition
		deleted                 bool
		ready, status, restarts string
	}{
		{name: "new", containers: list{{}, {}}, phase: corev1.PodPending, ready: "0/2", status: "Pending", restarts: "0"},
		{name: "held back", containers: list{{}}, phase: corev1.PodPending,
			conditions: []corev1.PodCondition{condition(corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonSchedulingGated)},
			ready:      "0/1", status: "SchedulingGated", restarts: "0"},
		{name: "being made", containers: list{container0("a", waiting("ContainerCreating"))}, phase: corev1.PodPending, ready: "0/1", status: "ContainerCreating", restarts: "0"},
		{name: "running", containers: list{container0("a", running), container0("b", running)}, phase: corev1.PodRunning, ready: "2/2", status: "Running", restarts: "0"},
		{name: "running, not ready", containers: list{container0("a", unready)}, phase: corev1.PodRunning, ready: "0/1", status: "Running", restarts: "0"},
		{name: "the first container has the word", containers: list{container0("a", waiting("ErrImagePull")), container0("b", waiting("CrashLoopBackOff"))},
			phase: corev1.PodPending, ready: "0/2", status: "ErrImagePull", restarts: "0"},
		{name: "restarted", containers: list{container0("a", running, restarted(3, 29*time.Second))}, phase: corev1.PodRunning, ready: "1/1", status: "Running", restarts: "3 (29s ago)"},
		{name: "restarted, the last time counts", containers: list{container0("a", running, restarted(2, 5*time.Minute)), container0("b", running, restarted(1, time.Minute))},
			phase: corev1.PodRunning, ready: "2/2", status: "Running", restarts: "3 (60s ago)"},
		{name: "restarted, nobody knows when", containers: list{container0("a", running, restarted(2, 0))}, phase: corev1.PodRunning, ready: "1/1", status: "Running", restarts: "2"},
		{name: "crashing", containers: list{container0("a", waiting("CrashLoopBackOff"), restarted(7, 11*time.Second))}, phase: corev1.PodRunning, ready: "0/1", status: "CrashLoopBackOff", restarts: "7 (11s ago)"},
		{name: "failed", containers: list{container0("a", ended(1, 0, "Error"))}, phase: corev1.PodFailed, ready: "0/1", status: "Error", restarts: "0"},
		{name: "out of memory", containers: list{container0("a", ended(137, 0, "OOMKilled"))}, phase: corev1.PodRunning, ready: "0/1", status: "OOMKilled", restarts: "0"},
		{name: "ended by a signal", containers: list{container0("a", ended(137, 9, ""))}, phase: corev1.PodFailed, ready: "0/1", status: "Signal:9", restarts: "0"},
		{name: "ended with a code", containers: list{container0("a", ended(3, 0, ""))}, phase: corev1.PodFailed, ready: "0/1", status: "ExitCode:3", restarts: "0"},
		{name: "completed", containers: list{container0("a", ended(0, 0, "Completed"))}, phase: corev1.PodSucceeded, ready: "0/1", status: "Completed", restarts: "0"},
		{name: "one completed, one runs, Pod ready", containers: list{container0("a", ended(0, 0, "Completed")), container0("b", running)}, phase: corev1.PodRunning,
			conditions: []corev1.PodCondition{ready}, ready: "1/2", status: "Running", restarts: "0"},
		{name: "one completed, one runs, Pod not ready", containers: list{container0("a", ended(0, 0, "Completed")), container0("b", running)}, phase: corev1.PodRunning, ready: "1/2", status: "NotReady", restarts: "0"},
		{name: "one completed, one failed", containers: list{container0("a", ended(0, 0, "Completed")), container0("b", ended(2, 0, "Error")), container0("c", running)}, phase: corev1.PodRunning,
			ready: "1/3", status: "Error", restarts: "0"},
		{name: "evicted", containers: list{{}}, phase: corev1.PodFailed, reason: "Evicted", ready: "0/1", status: "Evicted", restarts: "0"},
		{name: "too long at work", containers: list{{}}, phase: corev1.PodFailed, reason: "DeadlineExceeded", ready: "0/1", status: "DeadlineExceeded", restarts: "0"},
		{name: "going", containers: list{container0("a", running)}, phase: corev1.PodRunning, deleted: true, ready: "1/1", status: "Terminating", restarts: "0"},
		{name: "going with its node", containers: list{container0("a", running)}, phase: corev1.PodRunning, reason: nodeLost, deleted: true, ready: "1/1", status: "Unknown", restarts: "0"},
		{name: "gone", containers: list{container0("a", ended(0, 0, "Completed"))}, phase: corev1.PodSucceeded, deleted: true, ready: "0/1", status: "Completed", restarts: "0"},

		{name: "first init container runs", init: list{container0("x", unready), {}}, containers: list{{}}, phase: corev1.PodPending, ready: "0/1", status: "Init:0/2", restarts: "0"},
		{name: "second init container runs", init: list{container0("x", ended(0, 0, "Completed")), container0("y", unready)}, containers: list{{}}, phase: corev1.PodPending, ready: "0/1", status: "Init:1/2", restarts: "0"},
		{name: "second init container is next", init: list{container0("x", ended(0, 0, "Completed")), container0("y", waiting("PodInitializing"))}, containers: list{{}}, phase: corev1.PodPending, ready: "0/1", status: "Init:1/2", restarts: "0"},
		{name: "init container failed", init: list{container0("x", ended(1, 0, "Error"))}, containers: list{{}}, phase: corev1.PodPending, ready: "0/1", status: "Init:Error", restarts: "0"},
		{name: "init container ended with a code", init: list{container0("x", ended(4, 0, ""))}, containers: list{{}}, phase: corev1.PodPending, ready: "0/1", status: "Init:ExitCode:4", restarts: "0"},
		{name: "init container ended by a signal", init: list{container0("x", ended(4, 15, ""))}, containers: list{{}}, phase: corev1.PodPending, ready: "0/1", status: "Init:Signal:15", restarts: "0"},
		{name: "init container lost a child for memory", init: list{container0("x", ended(0, 0, "OOMKilled"))}, containers: list{{}}, phase: corev1.PodFailed, ready: "0/1", status: "Init:OOMKilled", restarts: "0"},
		{name: "init container crashes", init: list{container0("x", waiting("CrashLoopBackOff"), restarted(2, time.Hour))}, containers: list{{}}, phase: corev1.PodPending, ready: "0/1", status: "Init:CrashLoopBackOff", restarts: "2 (60m ago)"},
		{name: "init containers are done", init: list{container0("x", ended(0, 0, "Completed"), restarted(2, time.Hour))}, containers: list{container0("a", waiting("PodInitializing"))},
			phase: corev1.PodPending, ready: "0/1", status: "PodInitializing", restarts: "0"},
		{name: "initialized once, init container runs again", init: list{container0("x", unready)}, containers: list{container0("a", running)}, phase: corev1.PodRunning,
			conditions: []corev1.PodCondition{initialized}, ready: "1/1", status: "Init:0/1", restarts: "0"},
		{name: "sidecar starts", init: list{container0("x", unready)}, sidecars: []string{"x"}, containers: list{{}}, phase: corev1.PodPending, ready: "0/2", status: "Init:0/1", restarts: "0"},
		{name: "sidecar has started", init: list{container0("x", running, started)}, sidecars: []string{"x"}, containers: list{container0("a", running)}, phase: corev1.PodRunning, ready: "2/2", status: "Running", restarts: "0"},
		{name: "sidecar has started, not ready", init: list{container0("x", unready, started)}, sidecars: []string{"x"}, containers: list{container0("a", running)}, phase: corev1.PodRunning, ready: "1/2", status: "Running", restarts: "0"},
		{name: "restarts of sidecars stay", init: list{container0("x", running, started, restarted(2, time.Minute)), container0("y", ended(0, 0, "Completed"), restarted(9, time.Second))}, sidecars: []string{"x"},
			containers: list{container0("a", running, restarted(1, time.Hour))}, phase: corev1.PodRunning, ready: "2/2", status: "Running", restarts: "3 (60s ago)"},
		{name: "sidecar ended", init: list{container0("x", ended(1, 0, "Error"))}, sidecars: []string{"x"}, containers: list{{}}, phase: corev1.PodPending, ready: "0/2", status: "Init:Error", restarts: "0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", CreationTimestamp: ago(2 * time.Hour)}}
			for range tc.containers {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{})
			}
			for _, s := range tc.init {
				c := corev1.Container{Name: s.Name}
				for _, sidecar := range tc.sidecars {
					if sidecar == s.Name {
						c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
					}
				}
				pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
			}
			if tc.deleted {
				pod.DeletionTimestamp = ptr.To(ago(time.Second))
			}
			pod.Status = corev1.PodStatus{Phase: tc.phase, Reason: tc.reason, Conditions: tc.conditions, ContainerStatuses: tc.containers, InitContainerStatuses: tc.init}
			got, _ := definitionForTest().Table.Row(pod)
			want := []any{"p", tc.ready, tc.status, tc.restarts, "120m", "<none>", "<none>", "<none>", "<none>"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWideCells(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec:       corev1.PodSpec{NodeName: "n1", ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "a/b"}, {ConditionType: "c/d"}}},
		Status: corev1.PodStatus{
			PodIPs: []corev1.PodIP{{IP: "10.0.0.7"}, {IP: "fd00::7"}}, NominatedNodeName: "n2",
			Conditions: []corev1.PodCondition{condition("a/b", corev1.ConditionTrue, "")},
		},
	}
	got, _ := definitionForTest().Table.Row(pod)
	want := []any{"p", "0/0", "", "0", "<unknown>", "10.0.0.7", "n1", "n2", "1/2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestColumns(t *testing.T) {
	var names []string
	for i, c := range definitionForTest().Table.Columns {
		names = append(names, c.Name)
		if wide := i >= 5; (c.Priority == 1) != wide {
			t.Errorf("column %s: priority %d", c.Name, c.Priority)
		}
		if c.Description == "" {
			t.Errorf("column %s says nothing of itself", c.Name)
		}
	}
	want := []string{"Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestRowOfEndedPod(t *testing.T) {
	for phase, message := range map[corev1.PodPhase]string{
		corev1.PodSucceeded: "The pod has completed successfully.", corev1.PodFailed: "The pod failed.", corev1.PodRunning: "",
	} {
		_, got := definitionForTest().Table.Row(&corev1.Pod{Status: corev1.PodStatus{Phase: phase}})
		var want []metav1.TableRowCondition
		if message != "" {
			want = []metav1.TableRowCondition{{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: string(phase), Message: message}}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", phase, diff)
		}
	}
}
