package worker

import (
	"errors"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
)

// statusWrites counts the writes of pods/status.
func (n *node) statusWrites() int {
	count := 0
	for _, a := range n.client.Actions() {
		if a.Matches("update", "pods/status") {
			count++
		}
	}
	return count
}

func TestWritesAreTriedAgain(t *testing.T) {
	n := newNode(t)
	failed := make(chan struct{}, 100)
	down := true
	n.client.PrependReactor("update", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if a.GetSubresource() != "status" || !down {
			return false, nil, nil
		}
		failed <- struct{}{}
		return true, nil, errors.New("the API is away")
	})
	n.create(newPod())
	<-failed
	n.eventually(func() string {
		if p, ok := n.m.Pod("uid-web"); ok && p.Status.Phase == v1.PodRunning {
			return ""
		}
		return "the pod waits for the API"
	})
	n.script(func() { down = false })
	n.pass("web", "running", func(st *v1.PodStatus) bool { return st.Phase == v1.PodRunning })
}

func TestOthersAreSetRight(t *testing.T) {
	n := newNode(t)
	n.create(newPod())
	n.running("web")
	p := n.get("web")
	p.Status.Phase, p.Status.PodIP = v1.PodPending, "1.2.3.4"
	p.Status.Conditions = append(p.Status.Conditions, v1.PodCondition{Type: "theirs", Status: v1.ConditionTrue})
	if _, err := n.client.CoreV1().Pods("ns").UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.becomes("web", "set right", func(st *v1.PodStatus) bool {
		return st.Phase == v1.PodRunning && st.PodIP == "10.1.0.2" && isTrue(st, "theirs")
	})
}

func TestAnAPIWithItsOwnMindIsLeftAlone(t *testing.T) {
	n := newNode(t)
	n.client.PrependReactor("update", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if u, ok := a.(clienttesting.UpdateActionImpl); ok && a.GetSubresource() == "status" {
			u.GetObject().(*v1.Pod).Status.HostIPs = nil
		}
		return false, nil, nil
	})
	n.create(newPod())
	n.running("web")
	writes := -1
	n.eventually(func() string {
		if now := n.statusWrites(); now != writes {
			writes = now
			<-time.After(20 * time.Millisecond)
			return "writes go on"
		}
		return ""
	})
	n.runtime.exit("c", 1)
	n.becomes("web", "restarted", func(st *v1.PodStatus) bool { return first0(st).RestartCount == 1 })
}
