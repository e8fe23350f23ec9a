package plugins

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/scheduler/framework"
)

func TestNodeDeclaredFeatures(t *testing.T) {
	plain := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	restarts := plain.DeepCopy()
	restarts.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers}}
	for name, tc := range map[string]struct {
		pod      *corev1.Pod
		declared []string
		want     string
	}{
		"nothing needed": {plain, nil, "skip"},
		"declared":       {restarts, []string{"A", "RestartAllContainersOnContainerExits"}, ""},
		"not declared":   {restarts, []string{"A"}, "node(s) didn't match Pod's required features"},
	} {
		t.Run(name, func(t *testing.T) {
			node := framework.NewNodeInfo()
			node.SetNode(&corev1.Node{Status: corev1.NodeStatus{DeclaredFeatures: tc.declared}})
			if got := ask(t, NodeDeclaredFeatures{}, framework.NewPodInfo(tc.pod), node); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
