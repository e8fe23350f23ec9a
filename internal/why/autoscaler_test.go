package why

import (
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestExplainAutoscaler(t *testing.T) {
	cond := func(kind autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, message string) autoscalingv2.HorizontalPodAutoscalerCondition {
		return autoscalingv2.HorizontalPodAutoscalerCondition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: ago(time.Minute)}
	}
	able := cond(autoscalingv2.AbleToScale, "True", "ReadyForNewScale", "recommended size matches current size")
	for name, tc := range map[string]struct {
		conditions []autoscalingv2.HorizontalPodAutoscalerCondition
		want       []string // with ! what must not be there
	}{
		"not looked at":   {nil, []string{"it has not looked at Deployment/web yet"}},
		"as it should be": {[]autoscalingv2.HorizontalPodAutoscalerCondition{able}, []string{"Deployment/web has 2 replicas and is to have 3, between 1 and 5", "!scaling"}},
		"no target": {
			[]autoscalingv2.HorizontalPodAutoscalerCondition{cond(autoscalingv2.AbleToScale, "False", "FailedGetScale", `deployments.apps "web" not found`)},
			[]string{"scaling AbleToScale: FailedGetScale", "not found", "kubectl get deployment/web -n shop"},
		},
		"no request": {
			[]autoscalingv2.HorizontalPodAutoscalerCondition{able, cond(autoscalingv2.ScalingActive, "False", "FailedGetResourceMetric", "missing request for cpu in container c of Pod web-1")},
			[]string{"scaling ScalingActive: FailedGetResourceMetric", "set resources.requests in every container"},
		},
		"scaled to zero by hand": {
			[]autoscalingv2.HorizontalPodAutoscalerCondition{able, cond(autoscalingv2.ScalingActive, "False", "ScalingDisabled", "scaling is disabled")},
			[]string{"kubectl scale deployment/web -n shop --replicas=1"},
		},
		"at its limit, with a window": {
			[]autoscalingv2.HorizontalPodAutoscalerCondition{
				cond(autoscalingv2.AbleToScale, "True", "ScaleDownStabilized", "recent recommendations were higher"),
				cond(autoscalingv2.ScalingLimited, "True", "TooManyReplicas", "the desired replica count is more than the maximum replica count"),
			},
			[]string{"stabilizationWindowSeconds (300)", "scaling ScalingLimited: TooManyReplicas", "raise spec.maxReplicas"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: named,
				Spec:   autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web"}, MaxReplicas: 5},
				Status: autoscalingv2.HorizontalPodAutoscalerStatus{ObservedGeneration: ptr.To[int64](2), CurrentReplicas: 2, DesiredReplicas: 3, Conditions: tc.conditions}}
			var b strings.Builder
			if err := Write(&b, Explain(&Facts{Now: now, Namespace: "shop", Name: "web", Owner: owner(t, "HorizontalPodAutoscaler", a)}), now); err != nil {
				t.Fatal(err)
			}
			for _, part := range tc.want {
				unwanted, not := strings.CutPrefix(part, "!")
				if not == strings.Contains(b.String(), unwanted) {
					t.Errorf("want %q in\n%s", part, b.String())
				}
			}
		})
	}
}
