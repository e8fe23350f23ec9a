package e2e

import (
	"fmt"
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// events answers with the events of an object of a namespace.
func (s *space) events(namespace, name string) []corev1.Event {
	s.Helper()
	list, err := s.node.client.CoreV1().Events(namespace).List(s.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
	if err != nil {
		s.Fatal(err)
	}
	return list.Items
}

// Events say who tells them of what, and those that say the same again are one that counts.
func TestEvents(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("crash", "exit 3")
	s.create(pod)
	s.await("crash", "held back after its second restart", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount == 2 && p.Status.ContainerStatuses[0].State.Waiting != nil
	})
	const container = "spec.containers{c0}"
	for _, want := range []struct {
		kind, reason, message, component, field string
		count                                   int32
	}{
		{"Normal", "Scheduled", fmt.Sprintf("^Successfully assigned %s/crash to %s$", s.ns, s.node.name()), "default-scheduler", "", 0},
		{"Warning", "MissingClusterDNS", fmt.Sprintf(`^pod: "crash_%s\([0-9a-f-]{36}\)"\. kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy\. Falling back to "Default" policy\.$`, s.ns), "kubelet", "", 1},
		{"Normal", "Pulled", `^Container image "` + shellImage + `" already present on machine and can be accessed by the pod$`, "kubelet", container, 3},
		{"Normal", "Created", "^Container created$", "kubelet", container, 3},
		{"Normal", "Started", "^Container started$", "kubelet", container, 3},
		{"Warning", "BackOff", `^Back-off restarting failed container c0 in pod crash_` + s.ns + `\([0-9a-f-]{36}\)$`, "kubelet", container, 2},
	} {
		s.eventually("an event "+want.reason, func() error {
			var seen []string
			for _, e := range s.events(s.ns, "crash") {
				if e.Reason != want.reason {
					continue
				}
				seen = append(seen, fmt.Sprintf("%s %q %s %s %d", e.Type, e.Message, e.ReportingController, e.InvolvedObject.FieldPath, e.Count))
				told := e.ReportingController == want.component && (e.Source == corev1.EventSource{Component: want.component, Host: s.node.name()} || want.count == 0)
				if e.Type == want.kind && regexp.MustCompile(want.message).MatchString(e.Message) && told &&
					e.InvolvedObject.FieldPath == want.field && e.Count >= want.count && e.InvolvedObject.Kind == "Pod" {
					return nil
				}
			}
			return fmt.Errorf("want %+v, there are %q", want, seen)
		})
	}
	if n := len(s.events(s.ns, "crash")); n != 6 {
		s.Errorf("%d events, want one of each reason: %+v", n, s.events(s.ns, "crash"))
	}
}

// Events of the node itself.
func TestEventsOfTheNode(t *testing.T) {
	s := newSpace(t)
	s.create(shellPod("looks-names-up", "exec sleep 3600"))
	node := s.node.name()
	for reason, message := range map[string]string{
		"Starting":                "Starting kubelet.",
		"MissingClusterDNS":       `kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.`,
		"NodeReady":               "Node " + node + " status is now: NodeReady",
		"NodeHasSufficientMemory": "Node " + node + " status is now: NodeHasSufficientMemory",
		"RegisteredNode":          "Node " + node + " event: Registered Node " + node + " in Controller",
	} {
		s.eventually("the node has an event "+reason, func() error {
			for _, e := range s.events(metav1.NamespaceDefault, node) {
				if e.Reason == reason && e.Message == message && e.InvolvedObject.Kind == "Node" {
					return nil
				}
			}
			return fmt.Errorf("it has %+v", s.events(metav1.NamespaceDefault, node))
		})
	}
}
