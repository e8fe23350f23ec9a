package controller_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/controller/nodelifecycle"
	"podium.dev/podium/internal/controller/servicecidr"
)

// TestMirror: Endpoints that a user writes for a Service without a selector are mirrored, for as long as they are there.
func TestMirror(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	if _, err := client.CoreV1().Services(ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "own"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	mirror := func(want string) {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			list, err := client.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{LabelSelector: "endpointslice.kubernetes.io/managed-by=endpointslicemirroring-controller.k8s.io"})
			if err != nil {
				return err
			}
			got := ""
			for _, s := range list.Items {
				for _, e := range s.Endpoints {
					got += e.Addresses[0] + " "
				}
			}
			if got != want {
				err = fmt.Errorf("the mirror has %q, want %q", got, want)
			}
			return err
		})
	}
	endpoints := client.CoreV1().Endpoints(ns)
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "10.1.2.3"}}, Ports: []corev1.EndpointPort{{Name: "x", Port: 8080}},
	}}}
	e, err := endpoints.Create(ctx, e, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mirror("10.1.2.3 ")
	e.Subsets[0].Addresses[0].IP = "10.2.3.4"
	if _, err := endpoints.Update(ctx, e, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	mirror("10.2.3.4 ")
	if err := endpoints.Delete(ctx, "own", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	mirror("")
}

// TestServiceCIDR: a range becomes ready and is used; it is deleted once no Service has an address of it. An address that is
// deleted under a Service is reserved again.
func TestServiceCIDR(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	cidrs := client.NetworkingV1().ServiceCIDRs()
	ready := func(name string, want bool) {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			c, err := cidrs.Get(ctx, name, metav1.GetOptions{})
			if err == nil && (apimeta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady) != want || !slices.Contains(c.Finalizers, servicecidr.Finalizer)) {
				err = fmt.Errorf("service CIDR %+v", c)
			}
			return err
		})
	}
	ready("kubernetes", true)
	if _, err := cidrs.Create(ctx, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.77.0.0/28"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// At once, without waiting for the condition.
	if _, err := client.CoreV1().Services(ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "in"}, Spec: corev1.ServiceSpec{ClusterIP: "10.77.0.5", Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ready("more", true)
	addresses := client.NetworkingV1().IPAddresses()
	if err := addresses.Delete(ctx, "10.77.0.5", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		ip, err := addresses.Get(ctx, "10.77.0.5", metav1.GetOptions{})
		if err == nil && (ip.Spec.ParentRef == nil || ip.Spec.ParentRef.Name != "in") {
			err = fmt.Errorf("address %+v", ip)
		}
		return err
	})
	if err := cidrs.Delete(ctx, "more", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ready("more", false)
	if _, err := client.CoreV1().Services(ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "late"}, Spec: corev1.ServiceSpec{ClusterIP: "10.77.0.6", Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{}); err == nil {
		t.Error("a service got an address of a range that is being deleted")
	}
	if err := client.CoreV1().Services(ns).Delete(ctx, "in", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error {
		_, err := cidrs.Get(ctx, "more", metav1.GetOptions{})
		return gone(err)
	})
}

// TestLoadBalancer: a Service of the type LoadBalancer has the node's address, and the one that comes later none on the same port.
func TestLoadBalancer(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	if _, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "balancing"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.CoreV1().Nodes().Delete(context.Background(), "balancing", metav1.DeleteOptions{}) })
	status := `{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.7"}]}}`
	if _, err := client.CoreV1().Nodes().Patch(ctx, "balancing", types.StrategicMergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	services := client.CoreV1().Services(ns)
	expect := func(name, ip string) {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			s, err := services.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if in := s.Status.LoadBalancer.Ingress; (ip == "") != (len(in) == 0) || ip != "" && in[0].IP != ip || (ip == "") == (len(s.Finalizers) > 0) && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
				return fmt.Errorf("service %+v %+v", s.ObjectMeta, s.Status)
			}
			return nil
		})
	}
	for _, name := range []string{"a", "b"} {
		if _, err := services.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	expect("a", "192.0.2.7")
	events := func(reason string) {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			list, err := client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "reason=" + reason})
			if err == nil && len(list.Items) == 0 {
				err = fmt.Errorf("no event %s", reason)
			}
			return err
		})
	}
	events("EnsuredLoadBalancer")
	events("SyncLoadBalancerFailed")
	expect("b", "")
	// The first one becomes another type, and the second one has the port.
	if _, err := services.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"type":"ClusterIP"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("a", "")
	expect("b", "192.0.2.7")
	if err := services.Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		_, err := services.Get(ctx, "b", metav1.GetOptions{})
		return gone(err)
	})
}
