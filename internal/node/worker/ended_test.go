package worker

import (
	"os"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/node/pod"
)

// activeNames are the Pods that may have something running.
func (n *node) activeNames() (names []string) {
	for _, p := range n.m.Active() {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}

// When the disk is full, what is left of Pods that have ended goes: all but what the API says of them.
func TestForgetEnded(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	done := n.create(newPod(func(p *v1.Pod) { p.Name, p.UID, p.Spec.RestartPolicy = "done", "uid-done", v1.RestartPolicyNever }))
	n.running("web")
	n.running("done")
	if got := n.activeNames(); !slices.Equal(got, []string{"done", "web"}) {
		t.Errorf("active: %v", got)
	}
	<-n.m.Evict("uid-done", pod.Verdict{Reason: "Evicted", Message: "full"})
	n.becomes("done", "evicted", func(st *v1.PodStatus) bool { return st.Phase == v1.PodFailed && st.Reason == "Evicted" })
	if got := n.activeNames(); !slices.Equal(got, []string{"web"}) {
		t.Errorf("active: %v", got)
	}
	if n.runtime.count("RemoveContainer c") != 0 {
		t.Fatal("its logs were lost at once")
	}
	before := n.get("done").Status
	for range 2 { // the second time there is nothing left to do
		if err := n.m.ForgetEnded(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n.runtime.count("RemoveContainer c") != 1 {
		t.Errorf("calls: %v", n.runtime.callList())
	}
	if _, err := os.Stat(n.PodLogDir(done)); !os.IsNotExist(err) {
		t.Errorf("its logs are there: %v", err)
	}
	after := n.get("done").Status
	if first0(&after).State.Terminated == nil || *first0(&after).State.Terminated != *first0(&before).State.Terminated || after.Phase != v1.PodFailed {
		t.Errorf("its status became %+v", after)
	}
	n.running("web")
	n.delete("done", 1)
	n.delete("web", 1)
	n.gone("done")
	n.gone("web")
}
