package controller_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/controller/nodelifecycle"
)

func TestAutoscalersScaleAnyKindAndTellWhatIsMissing(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	labels := map[string]string{"app": "scaled"}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "scaled"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(1)), PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod("").Spec},
		},
	}
	if _, err := client.AppsV1().StatefulSets(ns).Create(ctx, set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	scaler := func(name, apiVersion, kind string, least int32, metrics ...autoscalingv2.MetricSpec) *autoscalingv2.HorizontalPodAutoscaler {
		t.Helper()
		a := &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: apiVersion, Kind: kind, Name: "scaled"},
				MinReplicas:    &least, MaxReplicas: 3, Metrics: metrics,
			},
		}
		a, err := client.AutoscalingV2().HorizontalPodAutoscalers(ns).Create(ctx, a, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	// condition waits until an autoscaler has a condition, in the form TYPE=STATUS REASON: MESSAGE.
	condition := func(name, want string) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			a, err := client.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			var all []string
			for _, c := range a.Status.Conditions {
				got := fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
				if got == want {
					return nil
				}
				all = append(all, got)
			}
			return fmt.Errorf("%s has no condition %q but\n%s", name, want, strings.Join(all, "\n"))
		})
	}

	scaler("least", "apps/v1", "StatefulSet", 2)
	condition("least", "AbleToScale=True SucceededRescale: the HPA controller was able to update the target scale to 2")
	if s, err := client.AppsV1().StatefulSets(ns).Get(ctx, "scaled", metav1.GetOptions{}); err != nil || *s.Spec.Replicas != 2 {
		t.Errorf("the StatefulSet wants %d replicas, %v", *s.Spec.Replicas, err)
	}
	eventually(t, 10*time.Second, func() error {
		list, err := client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=least"})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "SuccessfulRescale" && e.Message == "New size: 2; reason: Current number of replicas below Spec.MinReplicas" && e.Source.Component == "horizontal-pod-autoscaler" {
				return nil
			}
		}
		return fmt.Errorf("no event of it among %d", len(list.Items))
	})

	// The older version, read by a client of its own.
	old := client.AutoscalingV1().HorizontalPodAutoscalers(ns)
	if list, err := old.List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 1 || *list.Items[0].Spec.TargetCPUUtilizationPercentage != 80 {
		t.Errorf("v1: %+v, %v", list, err)
	}
	watch, err := old.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if e := <-watch.ResultChan(); !strings.Contains(e.Object.(*autoscalingv1.HorizontalPodAutoscaler).Annotations["autoscaling.alpha.kubernetes.io/conditions"], "AbleToScale") {
		t.Errorf("watched as v1: %+v", e)
	}

	scaler("unknown-kind", "nope.example/v1", "Nope", 1)
	condition("unknown-kind", `AbleToScale=False FailedGetScale: the HPA controller was unable to get the target's current scale: no matches for kind "Nope" in group "nope.example"`)
	scaler("no-target", "apps/v1", "Deployment", 1)
	condition("no-target", `AbleToScale=False FailedGetScale: the HPA controller was unable to get the target's current scale: deployments.apps "scaled" not found`)
	scaler("unscalable", "apps/v1", "DaemonSet", 1)
	condition("unscalable", `AbleToScale=False FailedGetScale: the HPA controller was unable to get the target's current scale: the server could not find the requested resource`)

	if err := client.AutoscalingV2().HorizontalPodAutoscalers(ns).Delete(ctx, "least", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	five := resource.MustParse("5")
	scaler("absent", "apps/v1", "StatefulSet", 1,
		autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{
			DescribedObject: autoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: "Service", Name: "s"},
			Metric:          autoscalingv2.MetricIdentifier{Name: "m"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: &five},
		}},
		autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "queue"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: &five},
		}},
	)
	condition("absent", "ScalingActive=False FailedGetObjectMetric: the HPA was unable to compute the replica count: "+
		"unable to get metric m on Service "+ns+"/s: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered")
	eventually(t, 10*time.Second, func() error {
		list, err := client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=absent"})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "FailedGetExternalMetric" && e.Message == "failed to get external metric queue: unable to get external metric "+ns+
				"/queue/nil: unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)" {
				return nil
			}
		}
		return fmt.Errorf("no event of the external metric in %v", list.Items)
	})
}
