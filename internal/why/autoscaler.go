package why

import (
	"cmp"
	"fmt"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// autoscaler explains an autoscaler from its conditions.
func autoscaler(f *Facts) workload {
	out := workload{wanted: -1}
	out.findings = told(f, func(_ *Facts, a *autoscalingv2.HorizontalPodAutoscaler) []Finding {
		s, to := &a.Status, a.Spec.ScaleTargetRef
		out.verdict = fmt.Sprintf("%s/%s has %s and is to have %d, between %d and %d", to.Kind, to.Name,
			plural(int(s.CurrentReplicas), "replica", "replicas"), s.DesiredReplicas, ptr.Deref(a.Spec.MinReplicas, 1), a.Spec.MaxReplicas)
		if len(s.Conditions) == 0 {
			out.verdict = fmt.Sprintf("it has not looked at %s/%s yet", to.Kind, to.Name)
		}
		var found []Finding
		for _, c := range s.Conditions {
			if !hinders(c) {
				continue
			}
			found = append(found, Finding{
				About: AboutScaling, Object: string(c.Type), Reason: c.Reason, Message: c.Message, Since: since(c.LastTransitionTime), Fix: scalingFix(a, c),
			})
		}
		return found
	})
	return out
}

// hinders reports whether a condition is in the way of the number of replicas that the metrics ask for.
func hinders(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
	switch c.Type {
	case autoscalingv2.AbleToScale:
		return c.Status != corev1.ConditionTrue || c.Reason == "ScaleDownStabilized" || c.Reason == "ScaleUpStabilized"
	case autoscalingv2.ScalingActive:
		return c.Status != corev1.ConditionTrue
	case autoscalingv2.ScalingLimited:
		return c.Status == corev1.ConditionTrue
	}
	return false
}

// scalingFix returns what would help, or "" if only waiting does.
func scalingFix(a *autoscalingv2.HorizontalPodAutoscaler, c autoscalingv2.HorizontalPodAutoscalerCondition) string {
	to := a.Spec.ScaleTargetRef
	target := fmt.Sprintf("%s/%s -n %s", strings.ToLower(to.Kind), to.Name, a.Namespace)
	switch c.Reason {
	case "FailedGetScale":
		return fmt.Sprintf("spec.scaleTargetRef must name an object that can be scaled: kubectl get %s", target)
	case "ScalingDisabled":
		return fmt.Sprintf("kubectl scale %s --replicas=%d", target, max(1, ptr.Deref(a.Spec.MinReplicas, 1)))
	case "AmbiguousSelector":
		return "let one autoscaler only scale these Pods"
	case "TooManyReplicas":
		return "raise spec.maxReplicas"
	case "TooFewReplicas":
		return "lower spec.minReplicas"
	case "ScaleUpLimit":
		return "it goes on in steps; spec.behavior.scaleUp.policies allow larger ones"
	case "ScaleDownLimit":
		return "it goes on in steps; spec.behavior.scaleDown.policies allow larger ones"
	case "ScaleDownStabilized":
		return fmt.Sprintf("wait, or shorten spec.behavior.scaleDown.stabilizationWindowSeconds (%d)", stabilization(a.Spec.Behavior, false))
	case "ScaleUpStabilized":
		return fmt.Sprintf("wait, or shorten spec.behavior.scaleUp.stabilizationWindowSeconds (%d)", stabilization(a.Spec.Behavior, true))
	case "FailedGetPodsMetric", "FailedGetObjectMetric":
		return "install an adapter that serves the metric in custom.metrics.k8s.io"
	case "FailedGetExternalMetric":
		return "install an adapter that serves the metric in external.metrics.k8s.io"
	case "FailedGetResourceMetric", "FailedGetContainerResourceMetric":
		return resourceFix(c.Message, target)
	}
	return ""
}

// resourceFix returns what would help against a failure to compute the use of a resource.
func resourceFix(message, target string) string {
	switch {
	case strings.Contains(message, "missing request for") || strings.Contains(message, "missing pod-level request for"):
		return "a percentage is one of the containers' requests: set resources.requests in every container of the Pod template"
	case strings.Contains(message, "container ") && strings.Contains(message, " not found in Pod"):
		return "name a container of the Pod template in spec.metrics"
	case strings.Contains(message, "pods might be unready"), strings.Contains(message, "no metrics returned"), strings.Contains(message, "no pods returned"):
		return fmt.Sprintf("it needs Pods that are ready and have been measured since: podium why %s", target)
	}
	return ""
}

// stabilization returns the stabilization window in seconds, or Kubernetes' default.
func stabilization(b *autoscalingv2.HorizontalPodAutoscalerBehavior, up bool) int32 {
	rules, otherwise := (*autoscalingv2.HPAScalingRules)(nil), int32(300)
	if b != nil {
		rules = b.ScaleDown
	}
	if up {
		otherwise = 0
		if b != nil {
			rules = b.ScaleUp
		}
	}
	rules = cmp.Or(rules, &autoscalingv2.HPAScalingRules{})
	return ptr.Deref(rules.StabilizationWindowSeconds, otherwise)
}
