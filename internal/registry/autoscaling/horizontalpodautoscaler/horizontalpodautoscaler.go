// Package horizontalpodautoscaler serves horizontalpodautoscalers: autoscaling/v2, which is stored, and its older form
// autoscaling/v1.
package horizontalpodautoscaler

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
)

var parts = specstatus.Halves[*autoscalingv2.HorizontalPodAutoscaler, autoscalingv2.HorizontalPodAutoscalerSpec, autoscalingv2.HorizontalPodAutoscalerStatus]{
	Spec: func(a *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscalerSpec {
		return &a.Spec
	},
	Status: func(a *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscalerStatus {
		return &a.Status
	},
	Generation: true,
}

// Kind returns the kind HorizontalPodAutoscaler.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*autoscalingv2.HorizontalPodAutoscaler]{
		GVK:        autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		Resource:   "horizontalpodautoscalers",
		Singular:   "horizontalpodautoscaler",
		ShortNames: []string{"hpa"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() *autoscalingv2.HorizontalPodAutoscaler { return &autoscalingv2.HorizontalPodAutoscaler{} },
		NewList:    func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} },
		Also:       []kit.Alias{v1()},

		Default:        setDefaults,
		Prepare:        parts.Prepare,
		Validate:       check,
		PrepareUpdate:  parts.PrepareUpdate,
		ValidateUpdate: checkUpdate,
		Status: &kit.SubresourceRules[*autoscalingv2.HorizontalPodAutoscaler]{
			PrepareUpdate:  parts.PrepareStatusUpdate,
			ValidateUpdate: checkStatusUpdate,
		},
		Table: table(),
	})
}

// Defaults of an autoscaler: CPU in percent of the requests; up by 4 Pods or 100 %, whichever is more, and down
// without a limit, evaluated over 15 seconds.
const (
	defaultUtilization = int32(80)
	defaultPeriod      = int32(15)
	defaultMorePods    = int32(4)
	wholePercent       = int32(100)
)

func setDefaults(a *autoscalingv2.HorizontalPodAutoscaler) {
	a.Annotations = withoutCarriers(a.Annotations)
	if a.Spec.MinReplicas == nil {
		a.Spec.MinReplicas = new(int32(1))
	}
	if len(a.Spec.Metrics) == 0 {
		a.Spec.Metrics = []autoscalingv2.MetricSpec{cpuUtilization(defaultUtilization)}
	}
	if b := a.Spec.Behavior; b != nil {
		percent := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: wholePercent, PeriodSeconds: defaultPeriod}
		pods := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: defaultMorePods, PeriodSeconds: defaultPeriod}
		b.ScaleUp = defaultRules(b.ScaleUp, pods, percent)
		if b.ScaleUp.StabilizationWindowSeconds == nil {
			b.ScaleUp.StabilizationWindowSeconds = new(int32(0))
		}
		b.ScaleDown = defaultRules(b.ScaleDown, percent)
	}
}

func defaultRules(r *autoscalingv2.HPAScalingRules, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	if r == nil {
		r = &autoscalingv2.HPAScalingRules{}
	}
	if r.SelectPolicy == nil {
		r.SelectPolicy = new(autoscalingv2.MaxChangePolicySelect)
	}
	if r.Policies == nil {
		r.Policies = policies
	}
	return r
}

func table() *kit.Table[*autoscalingv2.HorizontalPodAutoscaler] {
	wanted, there := autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc(), autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()
	return &kit.Table[*autoscalingv2.HorizontalPodAutoscaler]{
		Columns: []column.Definition{
			column.Name(),
			column.Text("Reference", wanted["scaleTargetRef"]),
			column.Text("Targets", wanted["metrics"]),
			column.Text("MinPods", wanted["minReplicas"]),
			column.Text("MaxPods", wanted["maxReplicas"]),
			column.Text("Replicas", there["currentReplicas"]),
			column.Age(),
		},
		Row: func(a *autoscalingv2.HorizontalPodAutoscaler) ([]any, []metav1.TableRowCondition) {
			least := column.Unset
			if n := a.Spec.MinReplicas; n != nil {
				least = fmt.Sprint(*n)
			}
			of := a.Spec.ScaleTargetRef
			return []any{
				a.Name, of.Kind + "/" + of.Name, targets(a.Spec.Metrics, a.Status.CurrentMetrics), least, int64(a.Spec.MaxReplicas),
				int64(a.Status.CurrentReplicas), column.Since(a.CreationTimestamp),
			}, nil
		},
	}
}
