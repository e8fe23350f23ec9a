package admission

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/utils/ptr"
)

// newPod makes the attributes of a request to create a Pod.
func newPod(p *corev1.Pod) admission.Attributes {
	return admission.NewAttributesRecord(p, nil, corev1.SchemeGroupVersion.WithKind("Pod"), "ns", "name",
		corev1.SchemeGroupVersion.WithResource("pods"), "", admission.Create, nil, false, &user.DefaultInfo{Name: "alice"})
}

func TestResourceClaimsAreRefused(t *testing.T) {
	u := newUnserved(func(schema.GroupResource) *genericregistry.Store { return nil })
	p := &corev1.Pod{}
	if err := u.Validate(context.Background(), newPod(p), nil); err != nil {
		t.Errorf("a Pod without claims: %v", err)
	}
	p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu"}}
	err := u.Validate(context.Background(), newPod(p), nil)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "spec.resourceClaims: ") || !strings.Contains(err.Error(), "resource.k8s.io") {
		t.Errorf("a Pod with claims: %v", err)
	}
}

func TestDefaultTolerations(t *testing.T) {
	for name, c := range map[string]struct {
		given []corev1.Toleration
		want  string
	}{
		"none":           {nil, "node.kubernetes.io/not-ready node.kubernetes.io/unreachable"},
		"everything":     {[]corev1.Toleration{{Operator: corev1.TolerationOpExists}}, ""},
		"one of them":    {[]corev1.Toleration{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}, "node.kubernetes.io/not-ready node.kubernetes.io/unreachable"},
		"another effect": {[]corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, " node.kubernetes.io/not-ready node.kubernetes.io/unreachable"},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.given}}
		if err := newDefaultTolerationSeconds().Admit(context.Background(), newPod(p), nil); err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, toleration := range p.Spec.Tolerations {
			keys = append(keys, toleration.Key)
		}
		if got := strings.Join(keys, " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestMergeTolerations(t *testing.T) {
	seconds := func(k string, s *int64) corev1.Toleration {
		return corev1.Toleration{Key: k, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: s}
	}
	all := corev1.Toleration{Operator: corev1.TolerationOpExists}
	for name, c := range map[string]struct {
		a, b []corev1.Toleration
		want int
	}{
		"different":          {[]corev1.Toleration{seconds("a", nil)}, []corev1.Toleration{seconds("b", nil)}, 2},
		"the same":           {[]corev1.Toleration{seconds("a", nil)}, []corev1.Toleration{seconds("a", nil)}, 1},
		"one covers all":     {[]corev1.Toleration{seconds("a", nil)}, []corev1.Toleration{all}, 1},
		"for longer":         {[]corev1.Toleration{seconds("a", ptr.To(int64(5)))}, []corev1.Toleration{seconds("a", ptr.To(int64(9)))}, 1},
		"for ever and while": {[]corev1.Toleration{seconds("a", nil)}, []corev1.Toleration{seconds("a", ptr.To(int64(9)))}, 1},
	} {
		if got := mergeTolerations(c.a, c.b); len(got) != c.want {
			t.Errorf("%s: %v, want %d", name, got, c.want)
		}
	}
}

func TestTokenVolume(t *testing.T) {
	s := newServiceAccount(nil)
	s.generate = func(base string) string { return base + "abcde" }
	taken := corev1.VolumeMount{Name: "own", MountPath: tokenPath}
	p := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "i"}},
		Containers:     []corev1.Container{{Name: "a"}, {Name: "b", VolumeMounts: []corev1.VolumeMount{taken}}},
	}}
	s.mountToken(p)
	s.mountToken(p) // again changes nothing
	if len(p.Spec.Volumes) != 1 || p.Spec.Volumes[0].Name != "kube-api-access-abcde" || len(p.Spec.Volumes[0].Projected.Sources) != 3 {
		t.Errorf("volumes = %v", p.Spec.Volumes)
	}
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		if len(c.VolumeMounts) != 1 {
			t.Errorf("container %s mounts %v", c.Name, c.VolumeMounts)
		}
	}
	if p.Spec.Containers[1].VolumeMounts[0].Name != "own" {
		t.Error("a mount of the Pod's own was replaced")
	}
	all := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{VolumeMounts: []corev1.VolumeMount{taken}}}}}
	s.mountToken(all)
	if len(all.Spec.Volumes) != 0 {
		t.Error("a volume was added that nobody mounts")
	}
}

func TestMirrorPodsReferToNothing(t *testing.T) {
	for want, change := range map[string]func(*corev1.PodSpec){
		"":                                   func(*corev1.PodSpec) {},
		"may not reference service accounts": func(s *corev1.PodSpec) { s.ServiceAccountName = "x" },
		"a mirror pod may not reference secrets": func(s *corev1.PodSpec) {
			s.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{}}}
		},
		"may not use ServiceAccountToken volume projections": func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Projected: tokenSource()}}}
		},
	} {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
		}
		change(&p.Spec)
		err := newServiceAccount(nil).Admit(context.Background(), newPod(p), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("error = %v, want %q", err, want)
		}
	}
}

func amount(cpu, memory string) corev1.ResourceList {
	l := corev1.ResourceList{}
	if cpu != "" {
		l[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		l[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return l
}

func TestLimitRange(t *testing.T) {
	r := &corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{
			Type: corev1.LimitTypeContainer, Default: amount("1", "1Gi"), DefaultRequest: amount("100m", ""),
			Min: amount("50m", ""), Max: amount("2", ""), MaxLimitRequestRatio: amount("10", ""),
		},
		{Type: corev1.LimitTypePod, Max: amount("", "2Gi")},
	}}}
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}, {Name: "b", Resources: corev1.ResourceRequirements{Limits: amount("500m", "")}}}}}
	fillResources(p, r)
	if got, want := p.Annotations[limitRangerAnnotation], "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu request for container b; memory limit for container b"; got != want {
		t.Errorf("annotation %q, want %q", got, want)
	}
	if err := checkPodLimits(p, r); err != nil {
		t.Errorf("what was filled in is refused: %v", err)
	}
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: amount("10m", ""), Limits: amount("3", "3Gi")}
	err := checkPodLimits(p, r)
	for _, want := range []string{
		"minimum cpu usage per Container is 50m, but request is 10m",
		"maximum cpu usage per Container is 2, but limit is 3",
		"cpu max limit to request ratio per Container is 10, but provided ratio is 300.000000",
		"maximum memory usage per Pod is 2Gi, but limit is 4Gi",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want %q in it", err, want)
		}
	}
}

func TestQuota(t *testing.T) {
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "q"},
		Status: corev1.ResourceQuotaStatus{
			Hard: corev1.ResourceList{"pods": resource.MustParse("2"), "requests.cpu": resource.MustParse("1")},
			Used: corev1.ResourceList{"pods": resource.MustParse("1"), "requests.cpu": resource.MustParse("600m")},
		},
	}
	q := newResourceQuota(nil)
	ask := func(cpu string) (corev1.ResourceList, error) {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: amount(cpu, "")}}}}}
		return charge{a: newPod(p), usage: q.usage(podsResource, p)}.to(quota)
	}
	used, err := ask("400m")
	if err != nil || used.Name("pods", resource.DecimalSI).Value() != 2 || used.Name("requests.cpu", resource.DecimalSI).MilliValue() != 1000 {
		t.Errorf("used = %v, %v", used, err)
	}
	_, err = ask("500m")
	if want := `pods "name" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1`; !apierrors.IsForbidden(err) || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
	_, err = ask("")
	if want := `failed quota: q: must specify requests.cpu for: c`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error = %v, want %s", err, want)
	}
	quota.Spec.Scopes = []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort}
	if used, err := ask("500m"); err != nil || used != nil {
		t.Errorf("out of scope: %v, %v", used, err)
	}
	if secret := q.usage(schema.GroupResource{Resource: "secrets"}, &corev1.Secret{}); len(secret) != 2 {
		t.Errorf("a secret uses %v", secret)
	}
}

func TestImmortalNamespaces(t *testing.T) {
	a := admission.NewAttributesRecord(nil, nil, corev1.SchemeGroupVersion.WithKind("Namespace"), "", "default",
		corev1.SchemeGroupVersion.WithResource("namespaces"), "", admission.Delete, nil, false, nil)
	err := newNamespaceLifecycle(nil).Admit(context.Background(), a, nil)
	if want := `namespaces "default" is forbidden: this namespace may not be deleted`; err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}
