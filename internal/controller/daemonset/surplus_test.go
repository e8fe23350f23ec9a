package daemonset

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Revisions that Pods have are kept and count against the limit, unlike those of a StatefulSet.
func TestSurplusOfRevisions(t *testing.T) {
	var all []*appsv1.ControllerRevision
	for _, name := range []string{"1", "2", "3", "4", "5"} {
		all = append(all, &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: name}}})
	}
	for _, tc := range []struct {
		limit int
		live  string
		want  string
	}{
		{10, "5", ""}, {4, "5", ""}, {2, "5", "12"}, {0, "5", "1234"},
		{3, "1", "2"}, {1, "12", "34"}, {2, "45", "12"}, {0, "12345", ""},
	} {
		var pods []*corev1.Pod
		for _, hash := range tc.live {
			pods = append(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: string(hash)}}})
		}
		var got []string
		for _, r := range surplus(slices.Clone(all), tc.limit, all[4], pods) {
			got = append(got, r.Name)
		}
		if strings.Join(got, "") != tc.want {
			t.Errorf("limit %d, Pods of %s: %v, want %s", tc.limit, tc.live, got, tc.want)
		}
	}
}

func TestRevisionWithoutLabelIsToldByItsName(t *testing.T) {
	if got := hashOf(&appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "agent-1"}}); got != "agent-1" {
		t.Errorf("hash %q: with none, no Pod would ever count as updated", got)
	}
}
