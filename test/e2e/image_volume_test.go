package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/test/registry"
)

// imageVolumePod is a Pod that shows a file of an image that it mounts.
func imageVolumePod(name, reference string, policy corev1.PullPolicy) *corev1.Pod {
	p := shellPod(name, "cat /v/mark; echo; exec sleep 3600")
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: reference, PullPolicy: policy}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	return p
}

// The image of a volume is pulled by its policy; what goes wrong is told as for a container's image.
func TestImageVolumeIsPulled(t *testing.T) {
	s := newSpace(t)
	server := registry.Start(t)
	ref := server.Put("team/files", "1", smallImage(t, s.Name()))
	never := imageVolumePod("never", ref, corev1.PullNever)
	s.create(never)
	s.awaitWaiting("never", fmt.Sprintf("Container image %q is not present with pull policy of Never", ref), "ErrImageNeverPull")
	s.create(imageVolumePod("pulls", ref, corev1.PullIfNotPresent))
	s.awaitRunning("pulls")
	s.eventually("it reads the image", func() error {
		if out := s.kubectl("logs", "pulls"); out != s.Name()+"\n" {
			return fmt.Errorf("%q", out)
		}
		return nil
	})
	s.eventuallyEvent("pulls", "Pulling", `Pulling image "`+ref+`"`)
	s.eventuallyEvent("pulls", "Pulled", `Successfully pulled image "`+ref+`" in `)
	s.awaitRunning("never") // it looks again
	s.create(imageVolumePod("missing", server.Host()+"/team/none:1", corev1.PullIfNotPresent))
	s.awaitWaiting("missing", "not found", "ErrImagePull")
	s.awaitWaiting("missing", "Back-off pulling image", "ImagePullBackOff")
	s.eventuallyEvent("missing", "Failed", "Failed to pull image")
	s.eventuallyEvent("missing", "BackOff", "Back-off pulling image")
	s.create(imageVolumePod("bad", "No:Good:Name", corev1.PullIfNotPresent))
	s.awaitWaiting("bad", "Failed to apply default image tag", "InvalidImageName")
}

// A Pod that asks for an AppArmor profile does not run where the kernel enforces none.
func TestAppArmorWithoutTheKernels(t *testing.T) {
	if on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil && strings.HasPrefix(string(on), "Y") {
		t.Skip("the kernel enforces AppArmor profiles")
	}
	s := newSpace(t)
	profile := "mine"
	p := shellPod("confined", "exec sleep 3600")
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &profile},
	}
	s.create(p)
	got := s.awaitPhase("confined", corev1.PodFailed)
	if got.Status.Reason != "AppArmor" || !strings.HasSuffix(got.Status.Message, "Cannot enforce AppArmor: AppArmor is not enabled on the host") {
		s.Errorf("reason %q, message %q", got.Status.Reason, got.Status.Message)
	}
	s.eventuallyEvent("confined", "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
}
