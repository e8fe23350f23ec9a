package horizontalpodautoscaler

import (
	"fmt"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	"podium.dev/podium/internal/registry/kit/column"
)

// shown is the number of metrics in a cell.
const shown = 2

// targets formats current and target values: "cpu: 20%/80%".
func targets(wanted []autoscalingv2.MetricSpec, there []autoscalingv2.MetricStatus) string {
	if len(wanted) == 0 {
		return column.None
	}
	words := make([]string, len(wanted))
	for i := range wanted {
		var now autoscalingv2.MetricStatus
		if i < len(there) {
			now = there[i]
		}
		words[i] = target(&wanted[i], &now)
	}
	if more := len(words) - shown; more > 0 {
		return fmt.Sprintf("%s + %d more...", strings.Join(words[:shown], ", "), more)
	}
	return strings.Join(words, ", ")
}

// measured formats a metric's value, if there is one.
func measured(has bool, value func() *resource.Quantity) string {
	if !has {
		return column.Unknown
	}
	return value().String()
}

func target(m *autoscalingv2.MetricSpec, now *autoscalingv2.MetricStatus) string {
	switch m.Type {
	case autoscalingv2.ExternalMetricSourceType:
		return valueOrAverage(&m.External.Target, now.External != nil, func() *autoscalingv2.MetricValueStatus { return &now.External.Current })
	case autoscalingv2.ObjectMetricSourceType:
		return valueOrAverage(&m.Object.Target, now.Object != nil, func() *autoscalingv2.MetricValueStatus { return &now.Object.Current })
	case autoscalingv2.PodsMetricSourceType:
		current := measured(now.Pods != nil, func() *resource.Quantity { return now.Pods.Current.AverageValue })
		return current + "/" + m.Pods.Target.AverageValue.String()
	case autoscalingv2.ResourceMetricSourceType:
		return utilization(string(m.Resource.Name), &m.Resource.Target, now.Resource != nil, func() *autoscalingv2.MetricValueStatus { return &now.Resource.Current })
	case autoscalingv2.ContainerResourceMetricSourceType:
		r := m.ContainerResource
		return utilization(string(r.Name), &r.Target, now.ContainerResource != nil, func() *autoscalingv2.MetricValueStatus { return &now.ContainerResource.Current })
	}
	return "<unknown type>"
}

func valueOrAverage(t *autoscalingv2.MetricTarget, has bool, now func() *autoscalingv2.MetricValueStatus) string {
	if t.AverageValue != nil {
		return fmt.Sprintf("%s/%s (avg)", measured(has && now().AverageValue != nil, func() *resource.Quantity { return now().AverageValue }), t.AverageValue.String())
	}
	return fmt.Sprintf("%s/%s", measured(has, func() *resource.Quantity { return now().Value }), t.Value.String())
}

func utilization(name string, t *autoscalingv2.MetricTarget, has bool, now func() *autoscalingv2.MetricValueStatus) string {
	if t.AverageValue != nil {
		return fmt.Sprintf("%s: %s/%s", name, measured(has, func() *resource.Quantity { return now().AverageValue }), t.AverageValue.String())
	}
	current, wanted := column.Unknown, "<auto>"
	if has && now().AverageUtilization != nil {
		current = fmt.Sprintf("%d%%", *now().AverageUtilization)
	}
	if t.AverageUtilization != nil {
		wanted = fmt.Sprintf("%d%%", *t.AverageUtilization)
	}
	return fmt.Sprintf("%s: %s/%s", name, current, wanted)
}
