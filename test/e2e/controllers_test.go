package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A ReplicaSet and a ReplicationController keep as many Pods as they are told, and take theirs with them.
func TestReplicas(t *testing.T) {
	s := newSpace(t)
	for _, kind := range []struct{ name, manifest string }{
		{"replicaset", "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: set}\nspec:\n  selector: {matchLabels: {app: set}}\n"},
		{"replicationcontroller", "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: set}\nspec:\n  selector: {app: set}\n"},
	} {
		names := func() []string {
			return strings.Fields(s.kubectl("get", "pods", "-l", "app=set", "-o", "name", "--field-selector", "status.phase=Running"))
		}
		running := func(n int) {
			s.Helper()
			s.eventually(fmt.Sprintf("%s has %d Pods", kind.name, n), func() error {
				if got := names(); len(got) != n {
					return fmt.Errorf("it has %q", got)
				}
				return nil
			})
		}
		s.apply(kind.manifest + "  replicas: 2\n  template:\n    metadata: {labels: {app: set}}\n    spec:\n" +
			"      terminationGracePeriodSeconds: 0\n      containers: [{name: c, image: " + shellImage + ", command: [sleep, '3600']}]\n")
		running(2)
		lost := names()[0]
		s.kubectl("delete", lost)
		running(2)
		if slices.Contains(names(), lost) {
			t.Errorf("%s was not replaced", lost)
		}
		s.kubectl("scale", kind.name, "set", "--replicas=1")
		running(1)
		s.kubectl("delete", kind.name, "set")
		running(0)
	}
}
