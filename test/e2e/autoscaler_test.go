package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A busy Deployment grows by the metrics that are built in, and both versions of its autoscaler are served.
func TestAutoscalerScalesABusyDeployment(t *testing.T) {
	s := newSpace(t)
	template := templateOf("burn", "trap 'exit 0' TERM; while :; do :; done")
	template.Spec.Containers[0].Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m")},
	}
	_, err := s.node.client.AppsV1().Deployments(s.ns).Create(s.ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "burn"},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(1)), Selector: selectorOf("burn"), Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The first use that is measured after a Pod became ready counts.
	s.kubectl("rollout", "status", "deploy/burn")
	if out := s.kubectl("autoscale", "deployment", "burn", "--min=1", "--max=3", "--cpu=50%"); !strings.Contains(out, "horizontalpodautoscaler.autoscaling/burn autoscaled") {
		t.Errorf("kubectl autoscale: %s", out)
	}
	busy := regexp.MustCompile(`(?m)^burn +Deployment/burn +cpu: [0-9]{3}%/50% +1 +3 +[123] `)
	s.eventually("three Pods share the work", func() error {
		if n := len(s.podsOf("burn")); n != 3 {
			out, _ := s.try("describe", "hpa", "burn")
			return fmt.Errorf("%d Pods; %s", n, out)
		}
		if out := s.kubectl("get", "hpa"); !busy.MatchString(out) {
			return fmt.Errorf("kubectl get hpa: %s", out)
		}
		return nil
	})
	s.eventuallyEvent("burn", "SuccessfulRescale", "New size: 3; reason: cpu resource utilization (percentage of request) above target")
	s.says([]string{"get", "horizontalpodautoscalers.v1.autoscaling", "burn", "-o", "yaml"},
		"apiVersion: autoscaling/v1", "targetCPUUtilizationPercentage: 50", "autoscaling.alpha.kubernetes.io/conditions:", "currentCPUUtilizationPercentage:")
	s.says([]string{"get", "hpa", "burn", "-o", "yaml"}, "apiVersion: autoscaling/v2", "averageUtilization: 50", "reason: ValidMetricFound")
	s.says([]string{"explain", "hpa.spec.targetCPUUtilizationPercentage", "--api-version=autoscaling/v1"}, "VERSION:    v1", "target average CPU utilization")
	s.says([]string{"explain", "hpa.spec.behavior"}, "VERSION:    v2", "scaleDown")
	s.eventually("podium why says what keeps it from more", func() error {
		return s.why("hpa/burn", "Deployment/burn has", "between 1 and 3", "TooManyReplicas", "raise spec.maxReplicas")
	})
	manifest := "apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: {name: burn}\n" +
		"spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: burn}, minReplicas: 1, maxReplicas: 2, targetCPUUtilizationPercentage: 50}\n"
	if out, err := s.tryInput(manifest, "apply", "-f", "-"); err != nil {
		t.Errorf("kubectl apply: %v: %s", err, out)
	}
	s.eventually("a lower maximum, applied as v1, counts at once", func() error {
		if n := len(s.podsOf("burn")); n != 2 {
			return fmt.Errorf("%d Pods", n)
		}
		return nil
	})
}
