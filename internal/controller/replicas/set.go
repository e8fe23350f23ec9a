package replicas

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
)

// set is a ReplicaSet or a ReplicationController, in a common form.
type set struct {
	metav1.ObjectMeta
	object   runtime.Object // the object itself, for events
	kind     schema.GroupVersionKind
	want     int
	selector labels.Selector
	template *corev1.PodTemplateSpec
	minReady time.Duration
	status   status
	// fresh reads the object from the API server.
	fresh func(ctx context.Context, client kubernetes.Interface) (metav1.Object, error)
	// write writes a status.
	write func(ctx context.Context, client kubernetes.Interface, s status) error
}

// status is the common part of the statuses of both kinds.
type status struct {
	replicas, labeled, ready, available int32
	terminating                         *int32
	observed                            int64
	failure                             *failure
}

// failure is the condition ReplicaFailure.
type failure struct {
	reason, message string
	since           metav1.Time
}

// equal reports whether two statuses are the same to a reader. An ongoing failure with the same reason is the
// same.
func (s status) equal(o status) bool {
	sameFailure := (s.failure == nil) == (o.failure == nil) && (s.failure == nil || s.failure.reason == o.failure.reason)
	a, b := s, o
	a.failure, b.failure = nil, nil
	return sameFailure && equality.Semantic.DeepEqual([]any{a.replicas, a.labeled, a.ready, a.available, a.terminating, a.observed},
		[]any{b.replicas, b.labeled, b.ready, b.available, b.terminating, b.observed})
}

func fromReplicaSet(rs *appsv1.ReplicaSet) (*set, error) {
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("read the selector of replica set %s/%s: %w", rs.Namespace, rs.Name, err)
	}
	s := &set{
		ObjectMeta: rs.ObjectMeta, object: rs, kind: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
		want: int(deref(rs.Spec.Replicas)), selector: selector, template: &rs.Spec.Template,
		minReady: time.Duration(rs.Spec.MinReadySeconds) * time.Second,
		status: status{
			rs.Status.Replicas, rs.Status.FullyLabeledReplicas, rs.Status.ReadyReplicas, rs.Status.AvailableReplicas,
			rs.Status.TerminatingReplicas, rs.Status.ObservedGeneration, nil,
		},
	}
	for _, c := range rs.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
			s.status.failure = &failure{c.Reason, c.Message, c.LastTransitionTime}
		}
	}
	s.fresh = func(ctx context.Context, client kubernetes.Interface) (metav1.Object, error) {
		return client.AppsV1().ReplicaSets(rs.Namespace).Get(ctx, rs.Name, metav1.GetOptions{})
	}
	s.write = func(ctx context.Context, client kubernetes.Interface, st status) error {
		out := rs.DeepCopy()
		out.Status = appsv1.ReplicaSetStatus{
			Replicas: st.replicas, FullyLabeledReplicas: st.labeled, ReadyReplicas: st.ready, AvailableReplicas: st.available,
			TerminatingReplicas: st.terminating, ObservedGeneration: st.observed,
		}
		if st.failure != nil {
			out.Status.Conditions = []appsv1.ReplicaSetCondition{{
				Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
				LastTransitionTime: st.failure.since, Reason: st.failure.reason, Message: st.failure.message,
			}}
		}
		_, err := client.AppsV1().ReplicaSets(rs.Namespace).UpdateStatus(ctx, out, metav1.UpdateOptions{})
		return err
	}
	return s, nil
}

func fromController(rc *corev1.ReplicationController) (*set, error) {
	template := rc.Spec.Template
	if template == nil {
		template = &corev1.PodTemplateSpec{}
	}
	s := &set{
		ObjectMeta: rc.ObjectMeta, object: rc, kind: corev1.SchemeGroupVersion.WithKind("ReplicationController"),
		want: int(deref(rc.Spec.Replicas)), selector: labels.SelectorFromSet(rc.Spec.Selector), template: template,
		minReady: time.Duration(rc.Spec.MinReadySeconds) * time.Second,
		status: status{
			rc.Status.Replicas, rc.Status.FullyLabeledReplicas, rc.Status.ReadyReplicas, rc.Status.AvailableReplicas,
			nil, rc.Status.ObservedGeneration, nil,
		},
	}
	for _, c := range rc.Status.Conditions {
		if c.Type == corev1.ReplicationControllerReplicaFailure && c.Status == corev1.ConditionTrue {
			s.status.failure = &failure{c.Reason, c.Message, c.LastTransitionTime}
		}
	}
	s.fresh = func(ctx context.Context, client kubernetes.Interface) (metav1.Object, error) {
		return client.CoreV1().ReplicationControllers(rc.Namespace).Get(ctx, rc.Name, metav1.GetOptions{})
	}
	s.write = func(ctx context.Context, client kubernetes.Interface, st status) error {
		out := rc.DeepCopy()
		out.Status = corev1.ReplicationControllerStatus{
			Replicas: st.replicas, FullyLabeledReplicas: st.labeled, ReadyReplicas: st.ready, AvailableReplicas: st.available,
			ObservedGeneration: st.observed,
		}
		if st.failure != nil {
			out.Status.Conditions = []corev1.ReplicationControllerCondition{{
				Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue,
				LastTransitionTime: st.failure.since, Reason: st.failure.reason, Message: st.failure.message,
			}}
		}
		_, err := client.CoreV1().ReplicationControllers(rc.Namespace).UpdateStatus(ctx, out, metav1.UpdateOptions{})
		return err
	}
	return s, nil
}

func deref(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}
