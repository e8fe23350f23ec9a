package why

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestExplainService(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	service := func(change ...func(*corev1.Service)) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "s"}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, Selector: map[string]string{"app": "x"},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")}},
		}}
		for _, f := range change {
			f(s)
		}
		return s
	}
	pod := func(name, port string, ready corev1.ConditionStatus) *Facts {
		return &Facts{Now: now, Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "s"},
			Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{Name: port, ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.0.1", Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
		}, Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}}
	}
	balancer := func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer }
	for _, tt := range []struct {
		name     string
		f        Facts
		verdict  string
		findings []string
		pods     int
	}{
		{"fine", Facts{Service: service(), Pods: []*Facts{pod("a", "http", "True")}}, "it leads to 1 of 1 Pod", nil, 0},
		{"no Pod", Facts{Service: service()}, "no Pod matches its selector", []string{"has the labels app=x"}, 0},
		{"not ready", Facts{Service: service(), Pods: []*Facts{pod("a", "http", "False")}}, "none of its 1 Pod is ready", nil, 1},
		{"some not ready", Facts{Service: service(), Pods: []*Facts{pod("a", "http", "False"), pod("b", "http", "True")}}, "it leads to 1 of 2 Pods", nil, 1},
		{"another name of the port", Facts{Service: service(), Pods: []*Facts{pod("a", "web", "True")}}, "not all ports lead to them", []string{`no container has a TCP port of the name "http", in 1 Pod: a`}, 0},
		{"no selector", Facts{Service: service(func(s *corev1.Service) { s.Spec.Selector = nil })}, "it has no selector", []string{"what a user writes"}, 0},
		{"endpoints of a user", Facts{Service: service(func(s *corev1.Service) { s.Spec.Selector = nil }), Endpoints: &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "1.1.1.1"}}}}}},
			"it leads to 1 address that", nil, 0},
		{"another name", Facts{Service: service(func(s *corev1.Service) { s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "x.y" })}, "another name of x.y", nil, 0},
		{"a port that is taken", Facts{Service: service(balancer), Pods: []*Facts{pod("a", "http", "True")}, Events: []corev1.Event{{Reason: "SyncLoadBalancerFailed", Message: "port 80/TCP of node n is taken"}}},
			"it leads to 1 of 1 Pod", []string{"port 80/TCP of node n is taken"}, 0},
		{"a class", Facts{Service: service(balancer, func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("x/y") }), Pods: []*Facts{pod("a", "http", "True")}},
			"it leads to 1 of 1 Pod", []string{"the loadBalancerClass x/y"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.f.Now = now
			e := Explain(&tt.f)
			if !strings.Contains(e.Verdict, tt.verdict) || len(e.Findings) != len(tt.findings) || len(e.Pods) != tt.pods {
				t.Fatalf("%+v", e)
			}
			for i, want := range tt.findings {
				if !strings.Contains(e.Findings[i].Message, want) {
					t.Errorf("finding %q, want %q", e.Findings[i].Message, want)
				}
			}
		})
	}
}
