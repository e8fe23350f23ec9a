// Package admission holds what is done to objects between their decoding and their storing: defaults that
// depend on other objects, and refusals. Each plug-in is a file, named as in Kubernetes; their words are
// Kubernetes' own.
package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	admissionmetrics "k8s.io/apiserver/pkg/admission/metrics"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"podium.dev/podium/internal/apistore"
	"podium.dev/podium/internal/auth/node"
	"podium.dev/podium/internal/auth/rbac"
)

// Config is what the plug-ins work with.
type Config struct {
	Stores apistore.Stores
	RBAC   *rbac.Authorizer
	// All decides on what users may do; some plug-ins ask it.
	All authorizer.UnconditionalAuthorizer
}

// Chain returns all plug-ins in Kubernetes' order: first those that change objects, each in turn, then
// those that only look.
func Chain(cfg Config) (admission.Interface, error) {
	security, err := newPodSecurity(cfg.Stores)
	if err != nil {
		return nil, err
	}
	plugins := []struct {
		name string
		p    admission.Interface
	}{
		{"PodBounds", newPodBounds()},
		{"NamespaceLifecycle", newNamespaceLifecycle(cfg.Stores)},
		{"LimitRanger", newLimitRanger(cfg.Stores)},
		{"ServiceAccount", newServiceAccount(cfg.Stores)},
		{"NodeRestriction", node.NewRestriction(cfg.Stores, cfg.All)},
		{"TaintNodesByCondition", newTaintNodes()},
		{"PodTopologyLabels", newPodTopologyLabels(cfg.Stores)},
		{"PodSecurity", security},
		{"Priority", newPriority(cfg.Stores)},
		{"DefaultTolerationSeconds", newDefaultTolerationSeconds()},
		{"StorageObjectInUseProtection", newStorageProtection()},
		{"RuntimeClass", newRuntimeClass(cfg.Stores)},
		{"PodResizeValidator", newPodResize(cfg.Stores)},
		{"CertificateApproval", newCertificateApproval(cfg.All)},
		{"CertificateSigning", newCertificateSigning(cfg.All)},
		{"ClusterTrustBundleAttest", newBundleAttest(cfg.All)},
		{"CertificateSubjectRestriction", newCertificateSubjectRestriction()},
		{"UnservedFields", newUnserved(cfg.Stores)},
		{"RBACEscalation", rbac.NewEscalation(cfg.RBAC, cfg.All)},
		{"ResourceQuota", newResourceQuota(cfg.Stores)},
	}
	chain := make([]admission.Interface, len(plugins))
	for i, p := range plugins {
		chain[i] = admissionmetrics.WithControllerMetrics(p.p, p.name)
	}
	return admissionmetrics.WithStepMetrics(admission.NewChainHandler(chain...)), nil
}

var podsResource = apistore.Core("pods")

// pod returns the object as a Pod when the request is for Pods themselves, not for a subresource.
func pod(a admission.Attributes) (*corev1.Pod, error) {
	if a.GetResource().GroupResource() != podsResource || a.GetSubresource() != "" || a.GetObject() == nil {
		return nil, nil
	}
	p, ok := a.GetObject().(*corev1.Pod)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("expected a pod but got a %T", a.GetObject()))
	}
	return p, nil
}

// find returns an object as the cache knows it, or as etcd does when the cache does not know it yet.
func find[T runtime.Object](ctx context.Context, s apistore.Stores, r schema.GroupResource, namespace, name string) (T, error) {
	o, err := apistore.Get[T](ctx, s, r, namespace, name)
	if apierrors.IsNotFound(err) {
		o, err = apistore.GetCurrent[T](ctx, s, r, namespace, name)
	}
	return o, err
}
