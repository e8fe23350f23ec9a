// Package podcontrol is what the workload controllers share: claiming objects by labels and owner, remembering what the
// watch has not shown yet, creating in growing batches, ranking Pods for deletion, and making Pods of a template.
package podcontrol

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
)

// Owner is an object whose controller makes Pods.
type Owner struct {
	metav1.Object
	Kind   schema.GroupVersionKind
	Events runtime.Object // the object, as events refer to it
}

// Pods creates and deletes the Pods of owners and records it in events, in the words of Kubernetes. Errors are those of
// the API server as they are: conditions of owners show them.
type Pods struct {
	Client   kubernetes.Interface
	Recorder record.EventRecorder
	Expect   *Expectations
}

// Create creates the Pod for the owner. It returns nil for a namespace that is being deleted, where nothing can be
// created any more.
func (c Pods) Create(ctx context.Context, owner Owner, pod *corev1.Pod) error {
	made, err := c.Client.CoreV1().Pods(owner.GetNamespace()).Create(ctx, pod, metav1.CreateOptions{})
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err != nil:
		c.Recorder.Eventf(owner.Events, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		return err
	}
	c.Expect.Created(owner.GetUID(), made.UID)
	c.Recorder.Eventf(owner.Events, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", made.Name)
	return nil
}

// Delete deletes the Pod. It returns nil for a Pod that is gone or has been replaced.
func (c Pods) Delete(ctx context.Context, owner Owner, pod *corev1.Pod) error {
	c.Expect.Deleting(owner.GetUID(), pod.UID, false)
	err := c.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if err == nil {
		c.Recorder.Eventf(owner.Events, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", pod.Name)
		return nil
	}
	c.Expect.Deleting(owner.GetUID(), pod.UID, true)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	c.Recorder.Eventf(owner.Events, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
	return err
}

// Patch patches a Pod's metadata. It has the form that Keeper.Patch wants.
func (c Pods) Patch(ctx context.Context, pod *corev1.Pod, how types.PatchType, body []byte) error {
	_, err := c.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, how, body, metav1.PatchOptions{})
	return err
}

// FromTemplate returns a Pod of the template, controlled by the owner, with a name that the API server completes.
func FromTemplate(owner Owner, template *corev1.PodTemplateSpec) *corev1.Pod {
	t := template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: owner.GetNamespace(), GenerateName: NamePrefix(owner.GetName()),
			Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, owner.Kind)},
		},
		Spec: t.Spec,
	}
}

// longestName is the longest owner's name to which a dash can be added in a Pod's name (RFC 1123: 253 characters).
const longestName = 252

// NamePrefix returns the start of the names of the owner's Pods.
func NamePrefix(owner string) string {
	if len(owner) > longestName {
		return owner
	}
	return owner + "-"
}
