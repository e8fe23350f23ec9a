package endpoints

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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

func noZone(string) string { return "" }

func TestSubsets(t *testing.T) {
	pods := []*corev1.Pod{newPod("p1", "10.1.0.1", true, named), newPod("p2", "10.1.0.2", false), newPod("p3", "10.1.0.3", true)}
	ended := newPod("p4", "10.1.0.4", true)
	ended.Status.Phase = corev1.PodSucceeded
	out, truncated := subsets(newService(byNumber, byName), backends(newService(byNumber, byName), append(pods, ended)))
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
	if slices.Sort(got); !slices.Equal(got, want) || truncated {
		t.Errorf("got %q %v", got, truncated)
	}
}

func TestSubsetsTruncated(t *testing.T) {
	var pods []*corev1.Pod
	for i := range mostAddresses + 5 {
		pods = append(pods, newPod(fmt.Sprintf("p%05d", i), fmt.Sprintf("10.1.%d.%d", i/250, i%250), i >= 5))
	}
	service := newService(byNumber)
	e := endpointsOf(service, backends(service, pods), nil)
	if n := len(e.Subsets[0].Addresses); n != mostAddresses || len(e.Subsets[0].NotReadyAddresses) != 0 || e.Annotations[overCapacity] != "truncated" {
		t.Errorf("%d addresses, annotations %v", n, e.Annotations)
	}
}

func TestSlices(t *testing.T) {
	service := newService(byNumber, byName)
	var pods []*corev1.Pod
	for i := range 150 {
		pods = append(pods, newPod(fmt.Sprintf("p%03d", i), fmt.Sprintf("10.1.0.%d", i), true))
	}
	pods = append(pods, newPod("named", "10.1.1.1", true, named))
	all := slicesOf(service, backends(service, pods), noZone)
	var sizes []int
	for _, s := range all {
		sizes = append(sizes, len(s.Endpoints)*10+len(s.Ports))
	}
	if slices.Sort(sizes); !slices.Equal(sizes, []int{12, 501, 1001}) {
		t.Errorf("endpoints*10+ports: %v", sizes)
	}
	if empty := slicesOf(service, nil, noZone); len(empty) != 1 || empty[0].Ports != nil {
		t.Errorf("without pods: %+v", empty)
	}
	service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	if both := slicesOf(service, backends(service, pods[:1]), noZone); len(both) != 2 || len(both[1].Endpoints) != 0 {
		t.Errorf("two families: %+v", both)
	}
}

func TestConditions(t *testing.T) {
	now := metav1.Now()
	going := newPod("going", "10.1.0.1", true)
	going.DeletionTimestamp = &now
	unready := newPod("unready", "10.1.0.2", false)
	for _, tt := range []struct {
		pod                         *corev1.Pod
		publish                     bool
		ready, serving, terminating bool
	}{
		{going, false, false, true, true},
		{going, true, true, true, true},
		{unready, false, false, false, false},
		{unready, true, true, false, false},
	} {
		service := newService(byNumber)
		service.Spec.PublishNotReadyAddresses = tt.publish
		c := slicesOf(service, backends(service, []*corev1.Pod{tt.pod}), noZone)[0].Endpoints[0].Conditions
		if *c.Ready != tt.ready || *c.Serving != tt.serving || *c.Terminating != tt.terminating {
			t.Errorf("%s, publish %v: %v %v %v", tt.pod.Name, tt.publish, *c.Ready, *c.Serving, *c.Terminating)
		}
	}
}

func TestReconcileWritesLittle(t *testing.T) {
	service := newService(byNumber)
	have := slicesOf(service, backends(service, []*corev1.Pod{newPod("a", "10.1.0.1", true)}), noZone)
	have[0].Name = "web-1"
	extra := have[0].DeepCopy()
	extra.Name, extra.Endpoints = "web-2", nil
	same := slicesOf(service, backends(service, []*corev1.Pod{newPod("a", "10.1.0.1", true)}), noZone)
	if c := reconcileSlices(same, have); len(c.create)+len(c.update)+len(c.remove) != 0 {
		t.Errorf("nothing changed: %+v", c)
	}
	c := reconcileSlices(same, []*discoveryv1.EndpointSlice{extra, have[0]})
	if len(c.create)+len(c.update) != 0 || !slices.Equal(c.remove, []string{"web-2"}) {
		t.Errorf("one too many: %+v", c)
	}
	more := slicesOf(service, backends(service, []*corev1.Pod{newPod("a", "10.1.0.1", false)}), noZone)
	if c := reconcileSlices(more, have); len(c.update) != 1 || c.update[0].Name != "web-1" {
		t.Errorf("a change: %+v", c)
	}
}
