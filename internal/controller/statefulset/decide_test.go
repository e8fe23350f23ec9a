package statefulset

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

var now = time.Unix(1_000_000, 0)

// newPod returns a member at a revision: "ready", "pending", "failed" or "going".
func newPod(n int, revision, state string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: memberName("db", n), Labels: map[string]string{appsv1.StatefulSetRevisionLabel: revision}}}
	identify(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"}}, p, n)
	p.Status.Phase = corev1.PodRunning
	switch state {
	case "pending":
		p.Status.Phase = corev1.PodPending
	case "failed":
		p.Status.Phase = corev1.PodFailed
	case "going":
		p.DeletionTimestamp = ptr.To(metav1.NewTime(now))
	case "ready":
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Minute))}}
	}
	return p
}

func TestDecideTakesTheNextStep(t *testing.T) {
	for _, tt := range []struct {
		name      string
		parallel  bool
		onDelete  bool
		replicas  int32
		partition int32
		minReady  int32
		pods      []*corev1.Pod
		want      []string
	}{
		{name: "ordered creates the lowest first", replicas: 3, want: []string{"create db-0"}},
		{name: "parallel creates all", parallel: true, replicas: 2, want: []string{"create db-0", "create db-1"}},
		{name: "an unready member halts the next", replicas: 2, pods: []*corev1.Pod{newPod(0, "new", "pending")}},
		{name: "minReadySeconds halts the next", replicas: 2, minReady: 90, pods: []*corev1.Pod{newPod(0, "new", "ready")}},
		{name: "a failed member is deleted", replicas: 1, pods: []*corev1.Pod{newPod(0, "new", "failed")}, want: []string{"remove db-0"}},
		{name: "the highest goes first", replicas: 1, pods: []*corev1.Pod{newPod(0, "new", "ready"), newPod(1, "new", "ready"), newPod(2, "new", "ready")}, want: []string{"remove db-2"}},
		{name: "an update starts at the highest", replicas: 2, pods: []*corev1.Pod{newPod(0, "old", "ready"), newPod(1, "old", "ready")}, want: []string{"remove db-1"}},
		{name: "the partition is kept", replicas: 2, partition: 2, pods: []*corev1.Pod{newPod(0, "old", "ready"), newPod(1, "old", "ready")}},
		{name: "OnDelete deletes nothing", onDelete: true, replicas: 1, pods: []*corev1.Pod{newPod(0, "old", "ready")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "ns", UID: "s"}}
			set.Spec.Replicas, set.Spec.MinReadySeconds = &tt.replicas, tt.minReady
			set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &tt.partition}}
			if tt.onDelete {
				set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
			}
			if tt.parallel {
				set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
			}
			set.Spec.Template.Labels = map[string]string{"app": "db"}
			v := &view{set: set, current: set, next: set, currentRevision: "old", nextRevision: "new", pods: tt.pods, now: now}
			var got []string
			for _, phase := range v.decide().phases {
				for _, a := range phase {
					got = append(got, fmt.Sprint(map[verb]string{create: "create", remove: "remove", update: "update"}[a.verb], " ", a.pod.Name))
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
