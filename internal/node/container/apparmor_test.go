package container

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAdmitAppArmor(t *testing.T) {
	profile := func(t v1.AppArmorProfileType) *v1.AppArmorProfile {
		return &v1.AppArmorProfile{Type: t, LocalhostProfile: ptr("mine")}
	}
	own := func(p *v1.AppArmorProfile) *v1.Pod {
		return &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", SecurityContext: &v1.SecurityContext{AppArmorProfile: p}}}}}
	}
	ofPod := func(p *v1.AppArmorProfile) *v1.Pod {
		return &v1.Pod{Spec: v1.PodSpec{SecurityContext: &v1.PodSecurityContext{AppArmorProfile: p}, Containers: []v1.Container{{Name: "c"}}}}
	}
	annotated := own(nil)
	annotated.ObjectMeta = metav1.ObjectMeta{Annotations: map[string]string{"container.apparmor.security.beta.kubernetes.io/c": "localhost/mine"}}
	for name, c := range map[string]struct {
		pod             *v1.Pod
		enabled, refuse bool
	}{
		"none":                       {own(nil), false, false},
		"unconfined":                 {own(profile(v1.AppArmorProfileTypeUnconfined)), false, false},
		"the runtime's":              {own(profile(v1.AppArmorProfileTypeRuntimeDefault)), false, true},
		"one of the node":            {own(profile(v1.AppArmorProfileTypeLocalhost)), false, true},
		"one of the node, the Pod's": {ofPod(profile(v1.AppArmorProfileTypeLocalhost)), false, true},
		"annotated":                  {annotated, false, true},
		"where there is AppArmor":    {own(profile(v1.AppArmorProfileTypeLocalhost)), true, false},
	} {
		v := admitAppArmor(c.pod, c.enabled)
		if (v != nil) != c.refuse || v != nil && (v.Reason != "AppArmor" || v.Message != "Cannot enforce AppArmor: AppArmor is not enabled on the host") {
			t.Errorf("%s: %+v, want it refused: %v", name, v, c.refuse)
		}
	}
}
