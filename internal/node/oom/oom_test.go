package oom

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]victim{
		"3,1204,5140900,-;Out of memory: Killed process 4242 (stress ng) total-vm:1048576kB, anon-rss:900000kB, oom_score_adj:1000\n": {"stress ng", 4242},
		"3,1,1,-;Out of memory (oom_kill_allocating_task): Killed process 7 (a) total-vm:1kB\n":                                       {"a", 7},
		"3,1,1,-;Memory cgroup out of memory: Killed process 7 (a) total-vm:1kB\n":                                                    {},
		"6,1,1,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),global_oom,task_memcg=/a,task=b,pid=1,uid=0\n":                   {},
		"3,1,1,-;Out of memory and no killable processes...\n":                                                                        {},
		"3,1,1,-;Out of memory: Killed process x (a) \n":                                                                              {},
		"12,1,1,-;Out of memory: Killed process 7 (a) total-vm:1kB\n":                                                                 {}, // a program wrote it
		"": {},
	} {
		got, ok := parse(text)
		if ok != (want != victim{}) || ok && got != want {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
	if got := (victim{"a", 7}).message(); got != "System OOM encountered, victim process: a, pid: 7" {
		t.Error(got)
	}
}

type onePod struct{ pod *corev1.Pod }

func (p onePod) Pod(uid types.UID) (*corev1.Pod, bool) { return p.pod, uid == p.pod.UID }

func TestWatchContainers(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "u"}}
	pod.Spec.Containers = []corev1.Container{{Name: "main"}}
	recorder := record.NewFakeRecorder(2)
	recorder.IncludeObject = true
	kills := make(chan Kill, 2)
	kills <- Kill{PodUID: "gone"}
	kills <- Kill{PodUID: "u", Container: "main", Message: "the kernel killed it"}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); WatchContainers(ctx, kills, onePod{pod}, recorder) }()
	if got := <-recorder.Events; !strings.HasPrefix(got, "Warning OOMKilled the kernel killed it") {
		t.Error(got)
	}
	cancel()
	<-done
}

// TestWatchMachine holds that the log is let go of when the node ends, whether or not it may be read here.
func TestWatchMachine(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		WatchMachine(ctx, func() *corev1.ObjectReference { return &corev1.ObjectReference{} }, record.NewFakeRecorder(1))
	}()
	cancel()
	<-done
}
