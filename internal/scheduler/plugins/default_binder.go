package plugins

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"podium.dev/podium/internal/scheduler/framework"
)

// DefaultBinder binds a Pod by posting a Binding.
type DefaultBinder struct {
	Client kubernetes.Interface
}

// Name implements framework.Plugin.
func (DefaultBinder) Name() string { return DefaultBinderName }

// Bind implements framework.Binder.
func (b DefaultBinder) Bind(ctx context.Context, pod *framework.PodInfo, node string) error {
	err := b.Client.CoreV1().Pods(pod.Pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Pod.Namespace, Name: pod.Pod.Name, UID: pod.Pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("bind pod %s to node %s: %w", pod.Name(), node, err)
	}
	return nil
}

// Hints implements framework.Hinter.
func (DefaultBinder) Hints() []framework.Hint { return nil }
