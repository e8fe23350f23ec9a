package controller_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"podium.dev/podium/internal/controller/nodelifecycle"
)

// The annotation deprecated.deployment.rollback.to is a request to the controller: the template comes back, the request is
// dropped, and an event says how it went.
func TestRollbackByAnnotation(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	one, labels := int32(1), map[string]string{"app": "web"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod("").Spec}
	_, err := client.AppsV1().Deployments(ns).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := template.Spec.Containers[0].Image
	deploymentIs(t, ctx, client, ns, first, "1")
	patch(t, ctx, client, ns, `{"spec":{"template":{"spec":{"containers":[{"name":"`+template.Spec.Containers[0].Name+`","image":"second:1"}]}}}}`)
	deploymentIs(t, ctx, client, ns, "second:1", "2")
	for _, step := range []struct{ to, reason, image, revision string }{
		{"0", "DeploymentRollback", first, "3"},
		{"9", "DeploymentRollbackRevisionNotFound", first, "3"},
		{"3", "DeploymentRollbackTemplateUnchanged", first, "3"},
		{"2", "DeploymentRollback", "second:1", "4"},
	} {
		patch(t, ctx, client, ns, `{"metadata":{"annotations":{"deprecated.deployment.rollback.to":"`+step.to+`"}}}`)
		deploymentIs(t, ctx, client, ns, step.image, step.revision)
		eventually(t, 10*time.Second, func() error {
			list, err := client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=Deployment,reason=" + step.reason})
			if err == nil && len(list.Items) == 0 {
				err = fmt.Errorf("no event %s", step.reason)
			}
			return err
		})
	}
}

func patch(t *testing.T, ctx context.Context, client kubernetes.Interface, ns, body string) {
	t.Helper()
	if _, err := client.AppsV1().Deployments(ns).Patch(ctx, "web", types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// deploymentIs waits until the Deployment has the image and the revision, and no request for a rollback.
func deploymentIs(t *testing.T, ctx context.Context, client kubernetes.Interface, ns, image, revision string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		d, err := client.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		got, number := d.Spec.Template.Spec.Containers[0].Image, d.Annotations["deployment.kubernetes.io/revision"]
		if to, asked := d.Annotations[appsv1.DeprecatedRollbackTo]; got != image || number != revision || asked {
			return fmt.Errorf("image %s, revision %s, request %q", got, number, to)
		}
		return nil
	})
}
