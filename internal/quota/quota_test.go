package quota

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Unix(10000, 0)

func newPod(change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{}}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func resources(p *corev1.Pod) {
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi"), "example.com/thing": resource.MustParse("2")},
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("2"), "example.com/thing": resource.MustParse("2")},
	}
}

func TestPodUsage(t *testing.T) {
	got := PodUsage(newPod(resources), now)
	for name, want := range map[corev1.ResourceName]string{
		"pods": "1", "count/pods": "1", "cpu": "1", "requests.cpu": "1", "limits.cpu": "2", "requests.memory": "1Gi", "requests.example.com/thing": "2",
	} {
		if q, ok := got[name]; !ok || q.Cmp(resource.MustParse(want)) != 0 {
			t.Errorf("%s: %s, want %s", name, q.String(), want)
		}
	}
	if _, ok := got["limits.memory"]; ok {
		t.Error("no limit, no usage")
	}
	ended := newPod(resources, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
	overdue := newPod(resources, func(p *corev1.Pod) {
		at, grace := metav1.NewTime(now.Add(-time.Second)), int64(30)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
	})
	for name, p := range map[string]*corev1.Pod{"ended": ended, "overdue": overdue} {
		if got := PodUsage(p, now); len(got) != 1 || got.Name("count/pods", resource.DecimalSI).Value() != 1 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSelects(t *testing.T) {
	deadline := func(p *corev1.Pod) { n := int64(5); p.Spec.ActiveDeadlineSeconds = &n }
	class := func(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.PriorityClassName = name } }
	abroad := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{PodAffinityTerm: corev1.PodAffinityTerm{Namespaces: []string{"x"}}}},
		}}
	}
	priority := func(op corev1.ScopeSelectorOperator, values ...string) *corev1.ScopeSelector {
		return &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: op, Values: values}}}
	}
	tests := []struct {
		name string
		spec corev1.ResourceQuotaSpec
		pod  *corev1.Pod
		want bool
	}{
		{"no scope", corev1.ResourceQuotaSpec{}, newPod(), true},
		{"terminating", corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{"Terminating"}}, newPod(deadline), true},
		{"not terminating", corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{"NotTerminating"}}, newPod(deadline), false},
		{"best effort", corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{"BestEffort"}}, newPod(), true},
		{"best effort, with requests", corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{"BestEffort"}}, newPod(resources), false},
		{"two scopes", corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{"NotBestEffort", "NotTerminating"}}, newPod(resources), true},
		{"class in", corev1.ResourceQuotaSpec{ScopeSelector: priority("In", "high")}, newPod(class("high")), true},
		{"class in another", corev1.ResourceQuotaSpec{ScopeSelector: priority("In", "high")}, newPod(class("low")), false},
		{"class exists", corev1.ResourceQuotaSpec{ScopeSelector: priority("Exists")}, newPod(), false},
		{"class not in", corev1.ResourceQuotaSpec{ScopeSelector: priority("NotIn", "high")}, newPod(class("low")), true},
		{"across namespaces", corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{"CrossNamespacePodAffinity"}}, newPod(abroad), true},
		{"at home", corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{"CrossNamespacePodAffinity"}}, newPod(), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Selects(&corev1.ResourceQuota{Spec: tt.spec}, tt.pod); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
