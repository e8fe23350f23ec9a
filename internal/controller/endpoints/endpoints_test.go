package endpoints

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func newPod(name, ip string, ready bool, ports ...corev1.ContainerPort) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "s"},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Ports: ports}}},
		Status:     corev1.PodStatus{PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
	}
}

func newService(ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "s"}, Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: ports}}
}

var (
	byNumber = corev1.ServicePort{Name: "a", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}
	byName   = corev1.ServicePort{Name: "b", Port: 81, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("b")}
	named    = corev1.ContainerPort{Name: "b", ContainerPort: 9090, Protocol: corev1.ProtocolTCP}
)

func TestSubsets(t *testing.T) {
	pods := []*corev1.Pod{newPod("p1", "10.1.0.1", true, named), newPod("p2", "10.1.0.2", false), newPod("p3", "10.1.0.3", true)}
	ended := newPod("p4", "10.1.0.4", true)
	ended.Status.Phase = corev1.PodSucceeded
	out := subsets(newService(byNumber, byName), backends(newService(byNumber, byName), append(pods, ended)))
	var got []string
	for _, s := range out {
		text := ""
		for _, a := range s.Addresses {
			text += " " + a.IP
		}
		for _, a := range s.NotReadyAddresses {
			text += " !" + a.IP
		}
		for _, p := range s.Ports {
			text += fmt.Sprintf(" %s:%d", p.Name, p.Port)
		}
		got = append(got, text)
	}
	want := []string{" 10.1.0.1 10.1.0.3 !10.1.0.2 a:8080", " 10.1.0.1 b:9090"}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestTruncated(t *testing.T) {
	// many returns a number of Pods, of which some are ready.
	many := func(count, ready int) (out []*corev1.Pod) {
		for i := range count {
			out = append(out, newPod(fmt.Sprintf("p%05d", i), fmt.Sprintf("10.1.%d.%d", i/250, i%250), i < ready))
		}
		return out
	}
	for _, tt := range []struct {
		name          string
		count, ready  int
		want, wantNot int
		truncated     bool
	}{
		{"as many as fit", 1000, 900, 900, 100, false},
		{"too many that are ready", 1005, 1002, 1000, 0, true},
		{"those that are ready first", 1005, 995, 995, 5, true},
		{"none is ready", 1500, 0, 0, 1000, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			service := newService(byNumber)
			e := endpointsOf(service, backends(service, many(tt.count, tt.ready)), nil, time.Time{})
			s := e.Subsets[0]
			if len(s.Addresses) != tt.want || len(s.NotReadyAddresses) != tt.wantNot || (e.Annotations[overCapacity] == "truncated") != tt.truncated {
				t.Errorf("%d ready and %d other addresses, annotations %v", len(s.Addresses), len(s.NotReadyAddresses), e.Annotations)
			}
			if endpointsOf(service, backends(service, many(tt.count, tt.ready)), e, time.Time{}) != nil {
				t.Error("what is right is written again")
			}
		})
	}
	// Two subsets share the room in proportion.
	service := newService(byNumber, byName)
	pods := many(1600, 1600)
	for _, pod := range pods[:400] {
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{named}
	}
	total := 0
	for _, s := range endpointsOf(service, backends(service, pods), nil, time.Time{}).Subsets {
		if total += len(s.Addresses); len(s.Addresses) != 800 && len(s.Addresses) != 200 {
			t.Errorf("a subset of %d addresses", len(s.Addresses))
		}
	}
	if total != 1000 {
		t.Errorf("%d addresses in all", total)
	}
}

func TestEndpointsOf(t *testing.T) {
	going := newPod("going", "10.1.0.9", true)
	going.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	pods := []*corev1.Pod{newPod("a", "10.1.0.1", true), newPod("b", "10.1.0.2", false), going}
	service := newService(byNumber)
	service.Labels = map[string]string{"team": "x", corev1.IsHeadlessService: "no"}
	changed := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	e := endpointsOf(service, backends(service, pods), nil, changed)
	if s := e.Subsets[0]; len(s.Addresses) != 1 || len(s.NotReadyAddresses) != 1 {
		t.Errorf("%+v", s)
	}
	if _, ok := e.Labels[corev1.IsHeadlessService]; ok || e.Labels["team"] != "x" || e.Labels[managedByEndpoints] != endpointController {
		t.Errorf("labels %v", e.Labels)
	}
	if got := e.Annotations[corev1.EndpointsLastChangeTriggerTime]; got != "2026-01-02T03:04:05.000000006Z" {
		t.Errorf("trigger time %q", got)
	}
	if endpointsOf(service, backends(service, pods), e, time.Time{}) != nil {
		t.Error("nothing changed, and it is written")
	}
	service.Spec.ClusterIP, service.Spec.PublishNotReadyAddresses = corev1.ClusterIPNone, true
	e.Annotations["mine"] = "kept"
	e = endpointsOf(service, backends(service, pods), e, time.Time{})
	if s := e.Subsets[0]; len(s.Addresses) != 3 || len(s.NotReadyAddresses) != 0 {
		t.Errorf("addresses that are not ready are published: %+v", s)
	}
	if _, ok := e.Annotations[corev1.EndpointsLastChangeTriggerTime]; ok || e.Annotations["mine"] != "kept" {
		t.Errorf("annotations %v", e.Annotations)
	}
	if v, ok := e.Labels[corev1.IsHeadlessService]; !ok || v != "" {
		t.Errorf("labels of a headless service %v", e.Labels)
	}
}
