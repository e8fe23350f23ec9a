package serviceaccount

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"

	"podium.dev/podium/internal/registry/kit"
)

// bind returns the object that the token is bound to, or nil if ref is nil.
func (r *tokenREST) bind(ctx context.Context, account, namespace string, ref *authenticationv1.BoundObjectReference) (*kit.BoundObject, error) {
	if ref == nil {
		return nil, nil
	}
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	if gvk.Group != "" {
		return nil, cannotBind(gvk)
	}
	bound := &kit.BoundObject{Kind: gvk.Kind, Name: ref.Name}
	switch gvk.Kind {
	case "Pod":
		pod, err := find[*corev1.Pod](ctx, r.env, "pods", namespace, ref.Name)
		if err != nil {
			return nil, err
		}
		if pod.Spec.ServiceAccountName != account {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account))
		}
		bound.UID = string(pod.UID)
		if err := r.addNode(ctx, bound, pod.Spec.NodeName); err != nil {
			return nil, err
		}
	case "Node":
		node, err := find[*corev1.Node](ctx, r.env, "nodes", "", ref.Name)
		if err != nil {
			return nil, err
		}
		bound.UID = string(node.UID)
	case "Secret":
		secret, err := find[*corev1.Secret](ctx, r.env, "secrets", namespace, ref.Name)
		if err != nil {
			return nil, err
		}
		bound.UID = string(secret.UID)
	default:
		return nil, cannotBind(gvk)
	}
	if ref.UID != "" && types.UID(bound.UID) != ref.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, ref.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return bound, nil
}

func cannotBind(gvk schema.GroupVersionKind) error {
	return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk.String()))
}

// addNode records the node of the Pod. If the node does not exist, only its name is recorded, so that readers
// of the token still see where the Pod was.
func (r *tokenREST) addNode(ctx context.Context, bound *kit.BoundObject, name string) error {
	if name == "" {
		return nil
	}
	bound.NodeName = name
	node, err := find[*corev1.Node](ctx, r.env, "nodes", "", name)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return apierrors.NewInternalError(err)
	default:
		bound.NodeUID = string(node.UID)
	}
	return nil
}

// find reads an object of the core group from its own store. The error is NotFound if it does not exist.
func find[T runtime.Object](ctx context.Context, env kit.Env, resource, namespace, name string) (obj T, err error) {
	store := env.Lookup(corev1.Resource(resource))
	if store == nil {
		return obj, apierrors.NewInternalError(fmt.Errorf("bind a token to %s %q: the resource is not served", resource, name))
	}
	ctx = genericapirequest.WithRequestInfo(genericapirequest.WithNamespace(ctx, namespace), &genericapirequest.RequestInfo{
		IsResourceRequest: true, Verb: "get", Namespace: namespace, Resource: resource, Name: name,
		Parts: []string{resource, name}, APIVersion: "v1",
	})
	stored, err := store.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return obj, err
	}
	obj, ok := stored.(T)
	if !ok {
		return obj, apierrors.NewInternalError(fmt.Errorf("bind a token to %s %q: the store holds a %T", resource, name, stored))
	}
	return obj, nil
}
