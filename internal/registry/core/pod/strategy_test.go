package pod

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/registry/podspec"
)

func TestAppArmorAnnotationsBecomeFields(t *testing.T) {
	const key = "container.apparmor.security.beta.kubernetes.io/c"
	const said = `metadata.annotations[` + key + `]: deprecated since v1.30; use the "appArmorProfile" field instead`
	runtimeDefault := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	for _, tc := range []struct {
		name, annotation string
		of, whole        *corev1.AppArmorProfile // the container's, the Pod's
		os               corev1.OSName
		want             *corev1.AppArmorProfile
		warns            bool
	}{
		{name: "runtime/default", annotation: "runtime/default", want: runtimeDefault, warns: true},
		{name: "unconfined", annotation: "unconfined", want: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}, warns: true},
		{name: "of the node", annotation: "localhost/mine", want: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: ptr.To("mine")}, warns: true},
		{name: "faulty", annotation: "localhost/", warns: true},
		{name: "unknown", annotation: "other", warns: true},
		{name: "field wins", annotation: "unconfined", of: runtimeDefault, want: runtimeDefault},
		{name: "what the Pod says already", annotation: "runtime/default", whole: runtimeDefault},
		{name: "Windows", annotation: "unconfined", os: corev1.Windows},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := somePod("p", func(p *corev1.Pod) {
				p.Annotations = map[string]string{key: tc.annotation}
				p.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: tc.whole}
				if tc.of != nil {
					p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: tc.of}
				}
				if tc.os != "" {
					p.Spec.OS = &corev1.PodOS{Name: tc.os}
				}
			})
			var got warnings
			appArmorFields(warning.WithWarningRecorder(context.Background(), &got), pod)
			var profile *corev1.AppArmorProfile
			if sc := pod.Spec.Containers[0].SecurityContext; sc != nil {
				profile = sc.AppArmorProfile
			}
			if diff := cmp.Diff(tc.want, profile); diff != "" {
				t.Errorf("profile (-want +got):\n%s", diff)
			}
			if warned := slices.Equal(got, []string{said}); warned != tc.warns || !warned && len(got) > 0 {
				t.Errorf("warnings are %q", got)
			}
		})
	}
}

func TestGracefulDelete(t *testing.T) {
	for _, tc := range []struct {
		name        string
		node        string
		phase       corev1.PodPhase
		asked, says *int64
		want        int64
	}{
		{name: "the Pod's own", node: "n1", phase: corev1.PodRunning, says: ptr.To[int64](30), want: 30},
		{name: "as asked", node: "n1", phase: corev1.PodRunning, asked: ptr.To[int64](5), says: ptr.To[int64](30), want: 5},
		{name: "at once as asked", node: "n1", phase: corev1.PodRunning, asked: ptr.To[int64](0), says: ptr.To[int64](30), want: 0},
		{name: "negative", node: "n1", phase: corev1.PodRunning, says: ptr.To[int64](-7), want: 1},
		{name: "asked negative", node: "n1", phase: corev1.PodRunning, asked: ptr.To[int64](-1), want: 1},
		{name: "without a node", phase: corev1.PodPending, asked: ptr.To[int64](5), says: ptr.To[int64](30), want: 0},
		{name: "ended well", node: "n1", phase: corev1.PodSucceeded, asked: ptr.To[int64](5), says: ptr.To[int64](30), want: 0},
		{name: "failed", node: "n1", phase: corev1.PodFailed, says: ptr.To[int64](30), want: 0},
		{name: "unknown", node: "n1", phase: corev1.PodUnknown, says: ptr.To[int64](30), want: 30},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{NodeName: tc.node, TerminationGracePeriodSeconds: tc.says}, Status: corev1.PodStatus{Phase: tc.phase}}
		o := &metav1.DeleteOptions{GracePeriodSeconds: tc.asked}
		if !gracefulDelete(context.Background(), pod, o) || ptr.Deref(o.GracePeriodSeconds, -9) != tc.want {
			t.Errorf("%s: %v, want %d", tc.name, ptr.Deref(o.GracePeriodSeconds, -9), tc.want)
		}
	}
	if gracefulDelete(context.Background(), &corev1.Pod{}, nil) {
		t.Error("a deletion without options is not graceful")
	}
}

func TestPrepareUpdateKeepsStatusAndCounts(t *testing.T) {
	old := somePod("p", func(p *corev1.Pod) {
		p.Generation, p.Status.Phase = 3, corev1.PodRunning
		p.Spec.Resources = &corev1.ResourceRequirements{}
	})
	pod := old.DeepCopy()
	pod.Status.Phase, pod.Labels["x"], pod.Spec.Resources = corev1.PodFailed, "y", nil
	prepareUpdate(context.Background(), pod, old)
	if pod.Generation != 3 || pod.Status.Phase != corev1.PodRunning || pod.Labels["x"] != "y" || pod.Spec.Resources == nil {
		t.Errorf("a change of labels: generation %d, phase %s, labels %v, resources %v", pod.Generation, pod.Status.Phase, pod.Labels, pod.Spec.Resources)
	}
	pod.Spec.Containers[0].Image = "other"
	prepareUpdate(context.Background(), pod, old)
	if pod.Generation != 4 {
		t.Errorf("a change of the spec: generation %d", pod.Generation)
	}
}

func TestPrepareStatusKeepsTheRest(t *testing.T) {
	condition := func(kind corev1.PodConditionType, generation int64) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, ObservedGeneration: generation}
	}
	old := somePod("p", func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Name: "o"}}
		p.Status = corev1.PodStatus{
			QOSClass: corev1.PodQOSBurstable, ObservedGeneration: 7,
			Conditions:            []corev1.PodCondition{condition("A", 1), condition("B", 2), condition("A", 3)},
			ResourceClaimStatuses: []corev1.PodResourceClaimStatus{{Name: "r"}},
		}
	})
	pod := old.DeepCopy()
	pod.OwnerReferences, pod.DeletionTimestamp, pod.Labels = nil, ptr.To(metav1.NewTime(now)), map[string]string{"new": "1"}
	pod.Spec.Containers[0].Image = "other"
	pod.Status = corev1.PodStatus{
		Phase:             corev1.PodRunning,
		Conditions:        []corev1.PodCondition{condition("B", 0), condition("A", 0), condition("A", 0), condition("A", 0), condition("C", 0), condition("B", 9)},
		ContainerStatuses: []corev1.ContainerStatus{{VolumeMounts: []corev1.VolumeMountStatus{{Name: "v", VolumeStatus: &corev1.VolumeStatus{}}}}},
	}
	prepareStatus(context.Background(), pod, old)
	if pod.Spec.Containers[0].Image != "i" || len(pod.OwnerReferences) != 1 || pod.DeletionTimestamp != nil || pod.Labels["new"] != "1" {
		t.Errorf("outside the status: %v %v", pod.ObjectMeta, pod.Spec)
	}
	want := corev1.PodStatus{
		Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBurstable, ObservedGeneration: 7,
		Conditions:            []corev1.PodCondition{condition("B", 2), condition("A", 1), condition("A", 3), condition("A", 0), condition("C", 0), condition("B", 9)},
		ResourceClaimStatuses: old.Status.ResourceClaimStatuses,
		ContainerStatuses:     []corev1.ContainerStatus{{VolumeMounts: []corev1.VolumeMountStatus{{Name: "v"}}}},
	}
	if diff := cmp.Diff(want, pod.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestStatusWarnsOfOddAddresses(t *testing.T) {
	pod := &corev1.Pod{Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00:0::1"}}, HostIPs: []corev1.HostIP{{IP: "010.0.0.1"}}}}
	want := []string{
		`status.podIPs[1].ip: IPv6 address "fd00:0::1" should be in RFC 5952 canonical format ("fd00::1")`,
		`status.hostIPs[0].ip: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1"`,
	}
	if diff := cmp.Diff(want, warnStatus(context.Background(), pod, nil)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSelectable(t *testing.T) {
	pod := somePod("p", func(p *corev1.Pod) {
		p.Spec.NodeName, p.Spec.HostNetwork, p.Spec.ServiceAccountName = "n1", true, "sa"
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}, NominatedNodeName: "n2"}
	})
	podspec.Default(pod)
	want := fields.Set{
		"spec.nodeName": "n1", "spec.restartPolicy": "Always", "spec.schedulerName": "default-scheduler", "spec.serviceAccountName": "sa",
		"spec.hostNetwork": "true", "status.phase": "Running", "status.podIP": "10.0.0.1", "status.nominatedNodeName": "n2",
	}
	if diff := cmp.Diff(want, selectable(pod)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSetCondition(t *testing.T) {
	before := metav1.NewTime(now.Add(-1))
	s := &corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: "A", Status: corev1.ConditionTrue, LastTransitionTime: before}}}
	setCondition(s, corev1.PodCondition{Type: "A", Status: corev1.ConditionTrue, Reason: "R"}, metav1.NewTime(now))
	if c := s.Conditions[0]; c.Reason != "R" || c.LastTransitionTime != before {
		t.Errorf("the same status: %v", c)
	}
	setCondition(s, corev1.PodCondition{Type: "A", Status: corev1.ConditionFalse}, metav1.NewTime(now))
	if c := s.Conditions[0]; len(s.Conditions) != 1 || c.LastTransitionTime.Time != now {
		t.Errorf("another status: %v", c)
	}
}
