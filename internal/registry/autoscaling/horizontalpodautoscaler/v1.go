package horizontalpodautoscaler

import (
	"encoding/json"
	"fmt"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	"podium.dev/podium/internal/registry/kit"
)

// The annotations in which autoscaling/v1 carries the fields that it has no place for, as JSON.
const (
	metricsAnnotation        = "autoscaling.alpha.kubernetes.io/metrics"
	currentMetricsAnnotation = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsAnnotation     = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorAnnotation       = "autoscaling.alpha.kubernetes.io/behavior"
	downToleranceAnnotation  = "autoscaling.alpha.kubernetes.io/scale-down-tolerance"
	upToleranceAnnotation    = "autoscaling.alpha.kubernetes.io/scale-up-tolerance"
)

var carriers = []string{
	metricsAnnotation, currentMetricsAnnotation, conditionsAnnotation, behaviorAnnotation, downToleranceAnnotation, upToleranceAnnotation,
}

// v1 returns the autoscaling/v1 form of autoscalers.
func v1() kit.Alias {
	return kit.Alias{
		GVK:     autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		New:     func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
		NewList: func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscalerList{} },
		Default: func(o runtime.Object) {
			// The default metric depends on the annotations, so fromV1 sets it.
			if a, ok := o.(*autoscalingv1.HorizontalPodAutoscaler); ok && a.Spec.MinReplicas == nil {
				a.Spec.MinReplicas = new(int32(1))
			}
		},
		Convert: kit.Conversion(toV1),
		Revert:  kit.Conversion(fromV1),
	}
}

// withoutCarriers returns annotations without those that autoscaling/v1 sets itself: a client's are not kept, as the
// fields that they stand for decide. It returns the map itself if it has none.
func withoutCarriers(annotations map[string]string) map[string]string {
	out, copied := annotations, false
	for _, key := range carriers {
		if _, ok := annotations[key]; !ok {
			continue
		}
		if !copied {
			out, copied = maps.Clone(annotations), true
		}
		delete(out, key)
	}
	return out
}

// isCPUUtilization reports whether autoscaling/v1 has a field for the metric.
func isCPUUtilization(m *autoscalingv2.MetricSpec) bool {
	return m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Target.AverageUtilization != nil
}

func toV1(in *autoscalingv2.HorizontalPodAutoscaler, out *autoscalingv1.HorizontalPodAutoscaler) error {
	*out = autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: in.ObjectMeta,
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(in.Spec.ScaleTargetRef),
			MinReplicas:    in.Spec.MinReplicas,
			MaxReplicas:    in.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: in.Status.ObservedGeneration,
			LastScaleTime:      in.Status.LastScaleTime,
			CurrentReplicas:    in.Status.CurrentReplicas,
			DesiredReplicas:    in.Status.DesiredReplicas,
		},
	}
	carried := map[string]any{}
	var others []autoscalingv1.MetricSpec
	for i := range in.Spec.Metrics {
		m := &in.Spec.Metrics[i]
		switch {
		case !isCPUUtilization(m):
			others = append(others, metricToV1(m))
		case out.Spec.TargetCPUUtilizationPercentage == nil:
			out.Spec.TargetCPUUtilizationPercentage = new(*m.Resource.Target.AverageUtilization)
		}
	}
	if len(others) > 0 {
		carried[metricsAnnotation] = others
	}
	var current []autoscalingv1.MetricStatus
	for i := range in.Status.CurrentMetrics {
		m := &in.Status.CurrentMetrics[i]
		current = append(current, currentToV1(m))
		if m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Current.AverageUtilization != nil {
			out.Status.CurrentCPUUtilizationPercentage = new(*m.Resource.Current.AverageUtilization)
		}
	}
	if len(current) > 0 {
		carried[currentMetricsAnnotation] = current
	}
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition
	for _, c := range in.Status.Conditions {
		conditions = append(conditions, autoscalingv1.HorizontalPodAutoscalerCondition{
			Type: autoscalingv1.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime,
			Reason: c.Reason, Message: c.Message, ObservedGeneration: c.ObservedGeneration,
		})
	}
	if len(conditions) > 0 {
		carried[conditionsAnnotation] = conditions
	}
	if in.Spec.Behavior != nil {
		carried[behaviorAnnotation] = behaviorToV1(in.Spec.Behavior)
	}
	out.Annotations = withoutCarriers(out.Annotations)
	return carry(&out.Annotations, carried)
}

// carry adds values to annotations as JSON. It copies the map, which may be another object's, before it changes it.
func carry(annotations *map[string]string, values map[string]any) error {
	if len(values) == 0 {
		return nil
	}
	out := make(map[string]string, len(*annotations)+len(values))
	maps.Copy(out, *annotations)
	for key, value := range values {
		text, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("write the annotation %s: %w", key, err)
		}
		out[key] = string(text)
	}
	*annotations = out
	return nil
}

func fromV1(in *autoscalingv1.HorizontalPodAutoscaler, out *autoscalingv2.HorizontalPodAutoscaler) error {
	*out = autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: in.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(in.Spec.ScaleTargetRef),
			MinReplicas:    in.Spec.MinReplicas,
			MaxReplicas:    in.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: in.Status.ObservedGeneration,
			LastScaleTime:      in.Status.LastScaleTime,
			CurrentReplicas:    in.Status.CurrentReplicas,
			DesiredReplicas:    in.Status.DesiredReplicas,
		},
	}
	for _, m := range carriedIn[[]autoscalingv1.MetricSpec](in, metricsAnnotation) {
		out.Spec.Metrics = append(out.Spec.Metrics, metricFromV1(&m))
	}
	if n := in.Spec.TargetCPUUtilizationPercentage; n != nil {
		out.Spec.Metrics = append(out.Spec.Metrics, cpuUtilization(*n))
	}
	if len(out.Spec.Metrics) == 0 {
		out.Spec.Metrics = []autoscalingv2.MetricSpec{cpuUtilization(defaultUtilization)}
	}
	if b := carriedIn[behaviorV1](in, behaviorAnnotation); b != (behaviorV1{}) {
		out.Spec.Behavior = b.toV2()
	}
	if n := in.Status.CurrentCPUUtilizationPercentage; n != nil {
		out.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricStatus{
				Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: new(*n)},
			},
		}}
	}
	if current := carriedIn[[]autoscalingv1.MetricStatus](in, currentMetricsAnnotation); current != nil {
		out.Status.CurrentMetrics = make([]autoscalingv2.MetricStatus, len(current)) // it has more than the field
		for i := range current {
			out.Status.CurrentMetrics[i] = currentFromV1(&current[i])
		}
	}
	for _, c := range carriedIn[[]autoscalingv1.HorizontalPodAutoscalerCondition](in, conditionsAnnotation) {
		out.Status.Conditions = append(out.Status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
			Type: autoscalingv2.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime,
			Reason: c.Reason, Message: c.Message, ObservedGeneration: c.ObservedGeneration,
		})
	}
	out.Annotations = withoutCarriers(out.Annotations)
	return nil
}

// carriedIn returns the value of an annotation, or the zero value if there is none or it cannot be read: annotations
// are not validated, so Kubernetes ignores it too.
func carriedIn[T any](in *autoscalingv1.HorizontalPodAutoscaler, key string) T {
	var value, none T
	if text, ok := in.Annotations[key]; !ok || json.Unmarshal([]byte(text), &value) != nil {
		return none
	}
	return value
}

func cpuUtilization(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{
		Type: autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricSource{
			Name:   corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(percent)},
		},
	}
}

// behaviorV1, rulesV1 and policyV1 are the form of a behavior in its annotation. Unlike everywhere else in the API,
// the names in it begin with a capital letter and absent values are null.
type behaviorV1 struct{ ScaleUp, ScaleDown *rulesV1 }

type rulesV1 struct {
	StabilizationWindowSeconds *int32
	SelectPolicy               *autoscalingv2.ScalingPolicySelect
	Policies                   []policyV1
	Tolerance                  *resource.Quantity
}

type policyV1 struct {
	Type                 autoscalingv2.HPAScalingPolicyType
	Value, PeriodSeconds int32
}

func behaviorToV1(b *autoscalingv2.HorizontalPodAutoscalerBehavior) behaviorV1 {
	rules := func(r *autoscalingv2.HPAScalingRules) *rulesV1 {
		if r == nil {
			return nil
		}
		out := &rulesV1{StabilizationWindowSeconds: r.StabilizationWindowSeconds, SelectPolicy: r.SelectPolicy, Tolerance: r.Tolerance}
		for _, p := range r.Policies {
			out.Policies = append(out.Policies, policyV1(p))
		}
		return out
	}
	return behaviorV1{ScaleUp: rules(b.ScaleUp), ScaleDown: rules(b.ScaleDown)}
}

func (b behaviorV1) toV2() *autoscalingv2.HorizontalPodAutoscalerBehavior {
	rules := func(r *rulesV1) *autoscalingv2.HPAScalingRules {
		if r == nil {
			return nil
		}
		out := &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: r.StabilizationWindowSeconds, SelectPolicy: r.SelectPolicy, Tolerance: r.Tolerance}
		for _, p := range r.Policies {
			out.Policies = append(out.Policies, autoscalingv2.HPAScalingPolicy(p))
		}
		return out
	}
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(b.ScaleUp), ScaleDown: rules(b.ScaleDown)}
}
