package horizontalpodautoscaler

import (
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
)

func checkMetrics(s *autoscalingv2.HorizontalPodAutoscalerSpec, object reference, path *field.Path) (faults field.ErrorList) {
	outside := false
	for i := range s.Metrics {
		m := &s.Metrics[i]
		faults = append(faults, checkMetric(m, object, path.Index(i))...)
		outside = outside || m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
	}
	if n := s.MinReplicas; n != nil && *n == 0 && !outside {
		faults = append(faults, field.Forbidden(path, "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	return faults
}

var metricTypes = []string{
	string(autoscalingv2.ContainerResourceMetricSourceType), string(autoscalingv2.ExternalMetricSourceType), string(autoscalingv2.ObjectMetricSourceType),
	string(autoscalingv2.PodsMetricSourceType), string(autoscalingv2.ResourceMetricSourceType),
}

// source is one of the sources of a metric. Exactly the one that the metric's type names must be set.
type source struct {
	name  string
	of    autoscalingv2.MetricSourceType
	given bool
	check func(*field.Path) field.ErrorList
}

func checkMetric(m *autoscalingv2.MetricSpec, object reference, path *field.Path) (faults field.ErrorList) {
	known := slices.Contains(metricTypes, string(m.Type))
	if m.Type == "" {
		faults = append(faults, field.Required(path.Child("type"), "must specify a metric source type"))
	}
	if !known {
		faults = append(faults, field.NotSupported(path.Child("type"), m.Type, metricTypes))
	}
	sources := []source{
		{"object", autoscalingv2.ObjectMetricSourceType, m.Object != nil, func(at *field.Path) field.ErrorList { return checkObject(m.Object, object, at) }},
		{"external", autoscalingv2.ExternalMetricSourceType, m.External != nil, func(at *field.Path) field.ErrorList { return checkExternal(m.External, at) }},
		{"pods", autoscalingv2.PodsMetricSourceType, m.Pods != nil, func(at *field.Path) field.ErrorList { return checkPods(m.Pods, at) }},
		{"resource", autoscalingv2.ResourceMetricSourceType, m.Resource != nil, func(at *field.Path) field.ErrorList { return checkResource(m.Resource, at) }},
		{"containerResource", autoscalingv2.ContainerResourceMetricSourceType, m.ContainerResource != nil, func(at *field.Path) field.ErrorList {
			return checkContainerResource(m.ContainerResource, at)
		}},
	}
	given := 0
	for _, s := range sources {
		if !s.given {
			continue
		}
		if given++; given == 1 {
			faults = append(faults, s.check(path.Child(s.name))...)
		}
	}
	for _, s := range sources {
		switch {
		case s.of == m.Type && !s.given:
			faults = append(faults, field.Required(path.Child(s.name), "must populate information for the given metric source"))
		case s.of != m.Type && s.given && given > 1:
			faults = append(faults, field.Forbidden(path.Child(s.name), "must populate the given metric source only"))
		}
	}
	if !known {
		faults = append(faults, field.NotSupported(path.Child("type"), m.Type, metricTypes))
	}
	return faults
}

func checkObject(o *autoscalingv2.ObjectMetricSource, named reference, path *field.Path) field.ErrorList {
	faults := named.check(o.DescribedObject, path.Child("describedObject"))
	faults = append(faults, checkName(o.Metric.Name, path.Child("metric", "name"))...)
	faults = append(faults, checkTarget(&o.Target, path.Child("target"))...)
	if o.Target.Value == nil && o.Target.AverageValue == nil {
		faults = append(faults, field.Required(path.Child("target", "averageValue"), "must set either a target value or averageValue"))
	}
	return faults
}

func checkExternal(e *autoscalingv2.ExternalMetricSource, path *field.Path) field.ErrorList {
	faults := checkName(e.Metric.Name, path.Child("metric", "name"))
	faults = append(faults, checkTarget(&e.Target, path.Child("target"))...)
	switch whole, each := e.Target.Value != nil, e.Target.AverageValue != nil; {
	case !whole && !each:
		faults = append(faults, field.Required(path.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
	case whole && each:
		faults = append(faults, field.Forbidden(path.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
	}
	return faults
}

func checkPods(p *autoscalingv2.PodsMetricSource, path *field.Path) field.ErrorList {
	faults := checkName(p.Metric.Name, path.Child("metric", "name"))
	faults = append(faults, checkTarget(&p.Target, path.Child("target"))...)
	if p.Target.AverageValue == nil {
		faults = append(faults, field.Required(path.Child("target", "averageValue"), "must specify a positive target averageValue"))
	}
	return faults
}

func checkResource(r *autoscalingv2.ResourceMetricSource, path *field.Path) (faults field.ErrorList) {
	if r.Name == "" {
		faults = append(faults, field.Required(path.Child("name"), "must specify a resource name"))
	}
	return append(faults, checkUtilization(&r.Target, path.Child("target"))...)
}

func checkContainerResource(r *autoscalingv2.ContainerResourceMetricSource, path *field.Path) (faults field.ErrorList) {
	if r.Name == "" {
		faults = append(faults, field.Required(path.Child("name"), "must specify a resource name"))
	} else {
		faults = append(faults, validate.ContainerResourceName(r.Name, path.Child("name"))...)
	}
	if r.Container == "" {
		faults = append(faults, field.Required(path.Child("container"), "must specify a container"))
	} else {
		faults = append(faults, validate.Label(r.Container, path.Child("container"))...)
	}
	return append(faults, checkUtilization(&r.Target, path.Child("target"))...)
}

// checkUtilization requires either an amount or a percentage of the requests.
func checkUtilization(t *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	faults := checkTarget(t, path)
	switch share, amount := t.AverageUtilization != nil, t.AverageValue != nil; {
	case !share && !amount:
		faults = append(faults, field.Required(path.Child("averageUtilization"), "must set either a target raw value or a target utilization"))
	case share && amount:
		faults = append(faults, field.Forbidden(path.Child("averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return faults
}

func checkTarget(t *autoscalingv2.MetricTarget, path *field.Path) (faults field.ErrorList) {
	if t.Type == "" {
		faults = append(faults, field.Required(path.Child("type"), "must specify a metric target type"))
	}
	if t.Type != autoscalingv2.UtilizationMetricType && t.Type != autoscalingv2.ValueMetricType && t.Type != autoscalingv2.AverageValueMetricType {
		faults = append(faults, field.Invalid(path.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		faults = append(faults, field.Invalid(path.Child("value"), t.Value, "must be positive"))
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		faults = append(faults, field.Invalid(path.Child("averageValue"), t.AverageValue, "must be positive"))
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		faults = append(faults, field.Invalid(path.Child("averageUtilization"), t.AverageUtilization, "must be greater than 0"))
	}
	return faults
}

func checkName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "must specify a metric name")}
	}
	return validate.Segment(name, path)
}
