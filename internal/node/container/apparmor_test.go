package container

import (
	"strings"
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
	overridden := ofPod(profile(v1.AppArmorProfileTypeRuntimeDefault))
	overridden.Spec.Containers[0].SecurityContext = &v1.SecurityContext{AppArmorProfile: profile(v1.AppArmorProfileTypeUnconfined)}
	ofOther := own(nil)
	ofOther.ObjectMeta = metav1.ObjectMeta{Annotations: map[string]string{"container.apparmor.security.beta.kubernetes.io/other": "invalid"}}
	free := own(nil)
	free.ObjectMeta = metav1.ObjectMeta{Annotations: map[string]string{"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}
	debugged := own(nil)
	debugged.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{
		SecurityContext: &v1.SecurityContext{AppArmorProfile: profile(v1.AppArmorProfileTypeRuntimeDefault)}}}}
	running := own(profile(v1.AppArmorProfileTypeLocalhost))
	running.Status.Phase = v1.PodRunning
	for name, c := range map[string]struct {
		pod             *v1.Pod
		enabled, refuse bool
	}{
		"none":                              {own(nil), false, false},
		"unconfined":                        {own(profile(v1.AppArmorProfileTypeUnconfined)), false, false},
		"the runtime's":                     {own(profile(v1.AppArmorProfileTypeRuntimeDefault)), false, true},
		"one of the node":                   {own(profile(v1.AppArmorProfileTypeLocalhost)), false, true},
		"one of the node, the Pod's":        {ofPod(profile(v1.AppArmorProfileTypeLocalhost)), false, true},
		"annotated":                         {annotated, false, true},
		"where there is AppArmor":           {own(profile(v1.AppArmorProfileTypeLocalhost)), true, false},
		"the Pod's, which no container has": {overridden, false, true},
		"an invalid annotation of another container": {ofOther, false, true},
		"annotated as unconfined":                    {free, false, false},
		"an ephemeral container's":                   {debugged, false, true},
		"a Pod that runs":                            {running, false, false},
	} {
		v := admitAppArmor(c.pod, c.enabled)
		if (v != nil) != c.refuse || v != nil && (v.Reason != "AppArmor" || v.Message != "Cannot enforce AppArmor: AppArmor is not enabled on the host") {
			t.Errorf("%s: %+v, want it refused: %v", name, v, c.refuse)
		}
	}
}

// Only an annotation can name a profile of the node by nothing: the API refuses it as a field.
func TestAdmitAppArmorWithoutAName(t *testing.T) {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"container.apparmor.security.beta.kubernetes.io/c": "localhost/ "}},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "c"}}},
	}
	if v := admitAppArmor(p, true); v == nil || v.Reason != "AppArmor" || !strings.HasPrefix(v.Message, "Cannot enforce AppArmor: invalid empty AppArmor profile name: ") {
		t.Errorf("%+v", v)
	}
}
