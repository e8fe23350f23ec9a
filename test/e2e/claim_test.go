package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// boundClaim makes a claim and a PersistentVolume of a folder of the host, and binds them by hand.
func (s *space) boundClaim(name, hostPath string) {
	s.Helper()
	none, core := "", s.node.client.CoreV1()
	room := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim, err := core.PersistentVolumeClaims(s.ns).Create(s.ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: modes, StorageClassName: &none, VolumeName: s.ns + "-" + name,
			Resources: corev1.VolumeResourceRequirements{Requests: room},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	_, err = core.PersistentVolumes().Create(s.ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: claim.Spec.VolumeName},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: room, AccessModes: modes,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: hostPath}},
			ClaimRef:               &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: s.ns, Name: name, UID: claim.UID},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	client := s.node.client
	s.Cleanup(func() {
		// A bound volume is protected from deletion.
		ctx, volumes := context.Background(), client.CoreV1().PersistentVolumes()
		_, err := volumes.Patch(ctx, claim.Spec.VolumeName, types.MergePatchType, []byte(`{"status":{"phase":"Released"}}`), metav1.PatchOptions{}, "status")
		if err = errors.Join(err, volumes.Delete(ctx, claim.Spec.VolumeName, metav1.DeleteOptions{})); err != nil {
			s.Error(err)
		}
	})
	s.kubectl("patch", "pvc", name, "--subresource=status", "--type=merge", "-p", `{"status":{"phase":"Bound"}}`)
	s.kubectl("patch", "pv", claim.Spec.VolumeName, "--subresource=status", "--type=merge", "-p", `{"status":{"phase":"Bound"}}`)
}

func claimVolume(name, claim string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}}
}

// A Pod mounts the volume of its claim; what it writes stays when the Pod goes.
func TestBoundClaim(t *testing.T) {
	s := newSpace(t)
	dir := t.TempDir()
	s.boundClaim("data", dir)
	p := shellPod("writer", "echo kept > /data/file; exec sleep 3600")
	p.Spec.Volumes = []corev1.Volume{claimVolume("v", "data")}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/data"}}
	s.create(p)
	s.awaitRunning("writer")
	s.eventually("the file is in the volume", func() error { _, err := os.Stat(filepath.Join(dir, "file")); return err })
	s.kubectl("delete", "pod", "writer")
	if got := s.readText(filepath.Join(dir, "file")); got != "kept\n" {
		s.Errorf("the volume's file holds %q", got)
	}
}
