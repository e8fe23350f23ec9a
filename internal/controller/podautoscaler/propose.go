package podautoscaler

import (
	"errors"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// reading is what was measured of one metric: samples of Pods, or values.
type reading struct {
	samples samples
	values  []int64
	err     error // if it could not be measured
}

// proposal is what one metric asks for.
type proposal struct {
	replicas int32
	metric   string // in the words of the event about a change
	status   autoscalingv2.MetricStatus
}

// failure is the reason for which a metric asks for nothing.
type failure struct {
	reason string // of the condition ScalingActive and of an event
	cause  error  // the message of both
	err    error  // the cause in the words of the event about all metrics
}

// failed returns the failure of a metric. what is the metric in the words of the event about all metrics.
func failed(reason, what string, cause error) *failure {
	return &failure{reason, cause, fmt.Errorf("failed to get %s metric value: %w", what, cause)}
}

// propose returns what a metric asks for according to a reading of it.
func (t target) propose(m *autoscalingv2.MetricSpec, r reading) (proposal, *failure) {
	switch {
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		return t.proposeByResource(m.Resource, r)
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		return t.proposeByContainer(m.ContainerResource, r)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		return t.proposeByPods(m.Pods, r)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		return t.proposeByObject(m.Object, r)
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		return t.proposeByExternal(m.External, r)
	}
	err := fmt.Errorf("unknown metric source type %q", string(m.Type))
	return proposal{}, &failure{"InvalidMetricSourceType", err, err}
}

func (t target) proposeByResource(s *autoscalingv2.ResourceMetricSource, r reading) (proposal, *failure) {
	n, now, metric, err := t.byResource(s.Name, "", &s.Target, r)
	if err != nil {
		return proposal{}, failed("FailedGetResourceMetric", string(s.Name)+" resource", err)
	}
	return proposal{n, metric, autoscalingv2.MetricStatus{
		Type:     autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricStatus{Name: s.Name, Current: now},
	}}, nil
}

func (t target) proposeByContainer(s *autoscalingv2.ContainerResourceMetricSource, r reading) (proposal, *failure) {
	n, now, metric, err := t.byResource(s.Name, s.Container, &s.Target, r)
	if err != nil {
		return proposal{}, failed("FailedGetContainerResourceMetric", s.Container+" container", err)
	}
	return proposal{n, metric, autoscalingv2.MetricStatus{
		Type:              autoscalingv2.ContainerResourceMetricSourceType,
		ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{Name: s.Name, Container: s.Container, Current: now},
	}}, nil
}

// byResource returns the replicas by the use of a resource, of one container if it is named, and the present use.
func (t target) byResource(name corev1.ResourceName, container string, wanted *autoscalingv2.MetricTarget, r reading) (n int32, now autoscalingv2.MetricValueStatus, metric string, err error) {
	if r.err != nil {
		r.err = fmt.Errorf("unable to get metrics for resource %s: %w", name, r.err)
	}
	var u usage
	switch {
	case wanted.AverageValue != nil:
		if err = r.err; err == nil {
			n, u, err = t.byAverage(r.samples, name == corev1.ResourceCPU, wanted.AverageValue.MilliValue())
		}
		if err != nil {
			return 0, now, "", fmt.Errorf("failed to get %s usage: %w", name, err)
		}
		return n, autoscalingv2.MetricValueStatus{AverageValue: quantity(name, u.average)}, fmt.Sprintf("%s resource", name), nil
	case wanted.AverageUtilization != nil:
		if err = r.err; err == nil {
			n, u, err = t.byUtilization(r.samples, name, container, *wanted.AverageUtilization)
		}
		if err != nil {
			return 0, now, "", fmt.Errorf("failed to get %s utilization: %w", name, err)
		}
		kind := "resource"
		if container != "" {
			kind = "container resource"
		}
		now = autoscalingv2.MetricValueStatus{AverageUtilization: &u.percent, AverageValue: quantity(name, u.average)}
		return n, now, fmt.Sprintf("%s %s utilization (percentage of request)", name, kind), nil
	}
	return 0, now, "", errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
}

// quantity formats an amount of a resource as the metrics API does.
func quantity(name corev1.ResourceName, milli int64) *resource.Quantity {
	if name == corev1.ResourceMemory {
		return resource.NewMilliQuantity(milli, resource.BinarySI)
	}
	return resource.NewMilliQuantity(milli, resource.DecimalSI)
}

func decimal(milli int64) *resource.Quantity {
	return resource.NewMilliQuantity(milli, resource.DecimalSI)
}

func (t target) proposeByPods(s *autoscalingv2.PodsMetricSource, r reading) (proposal, *failure) {
	const reason, what = "FailedGetPodsMetric", "pods"
	if _, err := metav1.LabelSelectorAsSelector(s.Metric.Selector); err != nil {
		return proposal{}, failed(reason, what, err)
	}
	if r.err != nil {
		return proposal{}, failed(reason, what, fmt.Errorf("unable to get metric %s: %w", s.Metric.Name, r.err))
	}
	n, u, err := t.byAverage(r.samples, false, s.Target.AverageValue.MilliValue())
	if err != nil {
		return proposal{}, failed(reason, what, err)
	}
	return proposal{n, "pods metric " + s.Metric.Name, autoscalingv2.MetricStatus{
		Type: autoscalingv2.PodsMetricSourceType,
		Pods: &autoscalingv2.PodsMetricStatus{Metric: s.Metric, Current: autoscalingv2.MetricValueStatus{AverageValue: decimal(u.average)}},
	}}, nil
}

func (t target) proposeByObject(s *autoscalingv2.ObjectMetricSource, r reading) (proposal, *failure) {
	const reason, what = "FailedGetObjectMetric", "object"
	if _, err := metav1.LabelSelectorAsSelector(s.Metric.Selector); err != nil {
		return proposal{}, failed(reason, what, err)
	}
	out := &autoscalingv2.ObjectMetricStatus{DescribedObject: s.DescribedObject, Metric: s.Metric}
	p := proposal{status: autoscalingv2.MetricStatus{Type: autoscalingv2.ObjectMetricSourceType, Object: out}}
	switch value := sum(r.values); {
	case s.Target.Type == autoscalingv2.ValueMetricType && s.Target.Value != nil:
		if r.err != nil {
			return proposal{}, failed(reason, what, r.err)
		}
		n, err := t.byValue(value, s.Target.Value.MilliValue())
		if err != nil {
			// Kubernetes has the same words for a value that cannot be compared as for one that cannot be read.
			return proposal{}, failed(reason, what, err)
		}
		p.replicas, p.metric, out.Current.Value = n, fmt.Sprintf("%s metric %s", s.DescribedObject.Kind, s.Metric.Name), decimal(value)
	case s.Target.Type == autoscalingv2.AverageValueMetricType && s.Target.AverageValue != nil:
		if r.err != nil {
			return proposal{}, failed(reason, what, fmt.Errorf("failed to get %s object metric: %w", s.Metric.Name, r.err))
		}
		n, share := t.byShare(value, s.Target.AverageValue.MilliValue())
		p.replicas, p.metric, out.Current.AverageValue = n, fmt.Sprintf("external metric %s(%+v)", s.Metric.Name, s.Metric.Selector), decimal(share)
	default:
		return proposal{}, failed(reason, what, errors.New("invalid object metric source: neither a value target nor an average value target was set"))
	}
	return p, nil
}

func (t target) proposeByExternal(s *autoscalingv2.ExternalMetricSource, r reading) (proposal, *failure) {
	const reason = "FailedGetExternalMetric"
	what := s.Metric.Name + " external"
	out := &autoscalingv2.ExternalMetricStatus{Metric: s.Metric}
	p := proposal{
		metric: fmt.Sprintf("external metric %s(%+v)", s.Metric.Name, s.Metric.Selector),
		status: autoscalingv2.MetricStatus{Type: autoscalingv2.ExternalMetricSourceType, External: out},
	}
	switch value := sum(r.values); {
	case s.Target.AverageValue != nil:
		if r.err != nil {
			return proposal{}, failed(reason, what, fmt.Errorf("failed to get %s external metric: %w", s.Metric.Name, r.err))
		}
		var share int64
		p.replicas, share = t.byShare(value, s.Target.AverageValue.MilliValue())
		out.Current.AverageValue = decimal(share)
	case s.Target.Value != nil:
		err := r.err
		if err == nil {
			p.replicas, err = t.byValue(value, s.Target.Value.MilliValue())
		}
		if err != nil {
			return proposal{}, failed(reason, what, fmt.Errorf("failed to get external metric %s: %w", s.Metric.Name, err))
		}
		out.Current.Value = decimal(value)
	default:
		return proposal{}, failed(reason, what, errors.New("invalid external metric source: neither a value target nor an average value target was set"))
	}
	return p, nil
}
