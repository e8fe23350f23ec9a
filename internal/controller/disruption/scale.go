package disruption

import (
	"context"
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// scales finds how many Pods the owners of Pods want. It reads the owners when a budget needs them: percentage
// budgets are too rare to justify a watch on every kind of owner.
type scales struct {
	client kubernetes.Interface
}

func newScales(client kubernetes.Interface) *scales { return &scales{client: client} }

// sum adds up the replicas that the Pods' controllers want, counting each controller once, and reports whether
// some Pod has none.
func (s *scales) sum(ctx context.Context, pods []*corev1.Pod) (total int, unmanaged bool, err error) {
	seen := map[types.UID]bool{}
	for _, pod := range pods {
		ref := metav1.GetControllerOf(pod)
		if ref == nil {
			unmanaged = true
			continue
		}
		if seen[ref.UID] {
			continue
		}
		seen[ref.UID] = true
		uid, n, err := s.of(ctx, pod.Namespace, *ref)
		if err != nil {
			return 0, false, fmt.Errorf("find how many pods the owner of pod %q wants: %w", pod.Name, err)
		}
		if uid != ref.UID {
			if seen[uid] {
				continue
			}
			seen[uid] = true
		}
		total += n
	}
	return total, unmanaged, nil
}

// of returns the owner that decides and the number it wants. A Deployment decides for its ReplicaSets. An owner
// that does not exist wants none.
func (s *scales) of(ctx context.Context, namespace string, ref metav1.OwnerReference) (types.UID, int, error) {
	switch ref.APIVersion + "/" + ref.Kind {
	case "apps/v1/ReplicaSet":
		rs, err := s.client.AppsV1().ReplicaSets(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil || rs.UID != ref.UID {
			return ref.UID, 0, ignoreNotFound(err)
		}
		if up := metav1.GetControllerOf(rs); up != nil && up.Kind == "Deployment" && up.APIVersion == "apps/v1" {
			d, err := s.client.AppsV1().Deployments(namespace).Get(ctx, up.Name, metav1.GetOptions{})
			if err == nil && d.UID == up.UID {
				return d.UID, int(value(d.Spec.Replicas)), nil
			}
			if ignoreNotFound(err) != nil {
				return "", 0, err
			}
		}
		return rs.UID, int(value(rs.Spec.Replicas)), nil
	case "v1/ReplicationController":
		rc, err := s.client.CoreV1().ReplicationControllers(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil || rc.UID != ref.UID {
			return ref.UID, 0, ignoreNotFound(err)
		}
		return rc.UID, int(value(rc.Spec.Replicas)), nil
	case "apps/v1/StatefulSet":
		ss, err := s.client.AppsV1().StatefulSets(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil || ss.UID != ref.UID {
			return ref.UID, 0, ignoreNotFound(err)
		}
		return ss.UID, int(value(ss.Spec.Replicas)), nil
	}
	return s.subresource(ctx, namespace, ref)
}

// subresource reads the scale subresource of an owner of any other kind.
func (s *scales) subresource(ctx context.Context, namespace string, ref metav1.OwnerReference) (types.UID, int, error) {
	list, err := s.client.Discovery().ServerResourcesForGroupVersion(ref.APIVersion)
	if err != nil {
		return "", 0, fmt.Errorf("find kind %s in %s: %w", ref.Kind, ref.APIVersion, err)
	}
	resource, scalable := "", map[string]bool{}
	for _, r := range list.APIResources {
		scalable[r.Name] = true
		if r.Kind == ref.Kind && !strings.Contains(r.Name, "/") {
			resource = r.Name
		}
	}
	if resource == "" || !scalable[resource+"/scale"] {
		return "", 0, fmt.Errorf("%s %s has no scale subresource", ref.Kind, ref.Name)
	}
	path := "/apis/" + ref.APIVersion
	if ref.APIVersion == "v1" {
		path = "/api/v1"
	}
	scale := &autoscalingv1.Scale{}
	err = s.client.Discovery().RESTClient().Get().
		AbsPath(path, "namespaces", namespace, resource, ref.Name, "scale").Do(ctx).Into(scale)
	if err != nil || scale.UID != ref.UID {
		return ref.UID, 0, ignoreNotFound(err)
	}
	return ref.UID, int(scale.Spec.Replicas), nil
}

func value(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
