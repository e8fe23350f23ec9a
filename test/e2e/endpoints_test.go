package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Service's endpoints follow its Pods.
func TestEndpointsFollowPods(t *testing.T) {
	s := newSpace(t)
	s.kubectl("create", "service", "clusterip", "web", "--tcp=80:80")
	addresses := func(want string) {
		s.Helper()
		s.eventually(fmt.Sprintf("the endpoints are %q", want), func() error {
			list, err := s.node.client.DiscoveryV1().EndpointSlices(s.ns).List(s.ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
			if err != nil {
				return err
			}
			out := ""
			for _, slice := range list.Items {
				for _, e := range slice.Endpoints {
					if *e.Conditions.Ready {
						out += e.Addresses[0]
					}
				}
			}
			if out != want {
				return fmt.Errorf("they are %q", out)
			}
			return nil
		})
	}
	addresses("")
	pod := shellPod("a", "exec sleep 3600")
	pod.Labels = map[string]string{"app": "web"}
	s.create(pod)
	addresses(s.awaitRunning("a").Status.PodIP)
	if out := s.kubectl("get", "endpoints", "web"); !strings.Contains(out, ":80") {
		s.Errorf("endpoints: %q", out)
	}
	s.kubectl("delete", "pod", "a", "--now")
	addresses("")
}

// A Service of the type LoadBalancer has the node's address, until it is of another type.
func TestLoadBalancerAddress(t *testing.T) {
	s := newSpace(t)
	s.kubectl("create", "service", "loadbalancer", "lb", "--tcp=18473:80")
	external := func(some bool) {
		s.Helper()
		s.eventually(fmt.Sprintf("an external address: %v", some), func() error {
			out := s.kubectl("get", "service", "lb", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}{.metadata.finalizers}")
			if (out != "") != some {
				return fmt.Errorf("the address and the finalizers are %q", out)
			}
			return nil
		})
	}
	external(true)
	s.kubectl("patch", "service", "lb", "-p", `{"spec":{"type":"ClusterIP"}}`)
	external(false)
}

// Endpoints that a user writes are mirrored.
func TestEndpointsMirrored(t *testing.T) {
	s := newSpace(t)
	s.kubectl("create", "service", "clusterip", "own", "--tcp=80:80")
	s.kubectl("patch", "service", "own", "--type=json", "-p", `[{"op":"remove","path":"/spec/selector"}]`)
	s.eventually("the Endpoints are written", func() error {
		_, err := s.node.client.CoreV1().Endpoints(s.ns).Update(t.Context(), &corev1.Endpoints{
			ObjectMeta: metav1.ObjectMeta{Name: "own", Namespace: s.ns},
			Subsets:    []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.9"}}, Ports: []corev1.EndpointPort{{Port: 80}}}},
		}, metav1.UpdateOptions{})
		return err
	})
	s.eventually("the mirror has the address", func() error {
		out := s.kubectl("get", "endpointslices", "-l", "endpointslice.kubernetes.io/managed-by=endpointslicemirroring-controller.k8s.io", "-o", "jsonpath={.items[*].endpoints[*].addresses[*]}")
		if out != "192.0.2.9" {
			return fmt.Errorf("it has %q", out)
		}
		return nil
	})
}
