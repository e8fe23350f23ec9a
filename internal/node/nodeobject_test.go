package node

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
)

// What others say of a silent node is put right as soon as the node sees it, not when its time to report has come.
func TestOverruledNodeReportsAtOnce(t *testing.T) {
	n := &Node{changed: make(chan struct{}, 1), ready: make(chan struct{}), recorder: record.NewFakeRecorder(10), lastWrite: time.Unix(1000, 0)}
	see := func(version string, ready corev1.ConditionStatus) (soon bool) {
		n.see(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: version},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
		})
		select {
		case <-n.changed:
			return true
		default:
			return false
		}
	}
	for _, tc := range []struct {
		version string
		ready   corev1.ConditionStatus
		soon    bool
		what    string
	}{
		{"10", corev1.ConditionTrue, false, "its own word"},
		{"12", corev1.ConditionUnknown, true, "overruled"},
		{"14", corev1.ConditionTrue, false, "put right"},
		{"13", corev1.ConditionUnknown, false, "an earlier state, which the watch brings late"},
		{"15", corev1.ConditionFalse, false, "its own word, or for its next report"},
	} {
		if got := see(tc.version, tc.ready); got != tc.soon {
			t.Errorf("%s: reported at once: %v", tc.what, got)
		}
	}
	if got := n.node().ResourceVersion; got != "15" {
		t.Errorf("the newest state seen is %s", got)
	}
}
