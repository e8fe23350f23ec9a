package horizontalpodautoscaler

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// every returns an autoscaler with every kind of metric and all that v1 has no field for.
func every() *autoscalingv2.HorizontalPodAutoscaler {
	quantity := func(s string) *resource.Quantity { return new(resource.MustParse(s)) }
	metric := autoscalingv2.MetricIdentifier{Name: "m", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}
	of := autoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: "Service", Name: "s"}
	value := autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: quantity("5")}
	average := autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: quantity("100m")}
	percent := autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))}
	a := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{"kept": "yes"}},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"},
			MinReplicas:    new(int32(2)), MaxReplicas: 9,
			Metrics: []autoscalingv2.MetricSpec{
				{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: average}},
				{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceMemory, Target: percent}},
				{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{Name: corev1.ResourceCPU, Container: "c", Target: percent}},
				{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: metric, Target: average}},
				{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{DescribedObject: of, Metric: metric, Target: value}},
				{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{DescribedObject: of, Metric: metric, Target: average}},
				{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: metric, Target: value}},
				{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: metric, Target: average}},
				cpuUtilization(70), // last, where it is after a conversion
			},
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{Tolerance: quantity("200m")}},
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: new(int64(3)), LastScaleTime: &metav1.Time{Time: time.Unix(1e9, 0)}, CurrentReplicas: 2, DesiredReplicas: 3,
			CurrentMetrics: []autoscalingv2.MetricStatus{
				{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: new(int32(7)), AverageValue: quantity("7m")}}},
				{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{Name: corev1.ResourceCPU, Container: "c", Current: autoscalingv2.MetricValueStatus{AverageValue: quantity("7m")}}},
				{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricStatus{Metric: metric, Current: autoscalingv2.MetricValueStatus{AverageValue: quantity("7m")}}},
				{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricStatus{DescribedObject: of, Metric: metric, Current: autoscalingv2.MetricValueStatus{Value: quantity("7")}}},
				{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricStatus{Metric: metric, Current: autoscalingv2.MetricValueStatus{Value: quantity("7")}}},
			},
			Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.AbleToScale, Status: corev1.ConditionTrue, Reason: "R", Message: "m"}},
		},
	}
	return a
}

func TestAnAutoscalerSurvivesItsOlderForm(t *testing.T) {
	a := every()
	var old autoscalingv1.HorizontalPodAutoscaler
	var back autoscalingv2.HorizontalPodAutoscaler
	if err := toV1(a, &old); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(every(), a); d != "" {
		t.Errorf("the conversion changed what it read (-before +after):\n%s", d)
	}
	if *old.Spec.TargetCPUUtilizationPercentage != 70 || *old.Status.CurrentCPUUtilizationPercentage != 7 {
		t.Errorf("cpu: target %d, current %d", *old.Spec.TargetCPUUtilizationPercentage, *old.Status.CurrentCPUUtilizationPercentage)
	}
	if err := fromV1(&old, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a, &back); d != "" {
		t.Errorf("(-v2 +v2 after v1):\n%s", d)
	}
}

func TestAnnotationsThatCannotBeReadAreIgnoredAndDropped(t *testing.T) {
	old := &autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"kept": "yes"}}}
	for _, key := range carriers {
		old.Annotations[key] = "{"
	}
	var a autoscalingv2.HorizontalPodAutoscaler
	if err := fromV1(old, &a); err != nil {
		t.Fatal(err)
	}
	want := autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"kept": "yes"}},
		Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{Metrics: []autoscalingv2.MetricSpec{cpuUtilization(80)}},
	}
	if d := cmp.Diff(want, a); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
