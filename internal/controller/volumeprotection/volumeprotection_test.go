package volumeprotection

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestUses(t *testing.T) {
	owner := []metav1.OwnerReference{{UID: "pod", Controller: new(true)}}
	byName := corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "p-v"}}}
	ephemeral := corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}
	ended := metav1.ObjectMeta{DeletionTimestamp: new(metav1.Now()), DeletionGracePeriodSeconds: new(int64(0))}
	for _, c := range []struct {
		name   string
		volume corev1.Volume
		node   string
		meta   metav1.ObjectMeta
		owner  []metav1.OwnerReference
		want   bool
	}{
		{name: "named, on a node", volume: byName, node: "n", want: true},
		{name: "named, not scheduled", volume: byName},
		{name: "named, shut down", volume: byName, node: "n", meta: ended, want: true},
		{name: "ephemeral and owned", volume: ephemeral, node: "n", owner: owner, want: true},
		{name: "ephemeral, another's claim", volume: ephemeral, node: "n"},
		{name: "ephemeral, shut down", volume: ephemeral, node: "n", owner: owner, meta: ended},
		{name: "no volume of it", volume: corev1.Volume{Name: "v"}, node: "n", owner: owner},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: c.meta, Spec: corev1.PodSpec{NodeName: c.node, Volumes: []corev1.Volume{c.volume}}}
			pod.Name, pod.UID = "p", "pod"
			claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "p-v", OwnerReferences: c.owner}}
			if got := uses(pod, claim); got != c.want {
				t.Errorf("uses: %v, want %v", got, c.want)
			}
		})
	}
}
