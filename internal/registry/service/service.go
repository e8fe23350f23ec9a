// Package service serves core/v1 services. A service is given a cluster address and, where its type asks for
// them, node ports, both reserved before it is stored and given back when it is gone.
package service

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"podium.dev/podium/internal/registry"
)

// Kind answers with the kind Service.
func Kind() registry.Kind {
	return registry.Define(registry.Definition[*corev1.Service]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Service"),
		Resource:   "services",
		Singular:   "service",
		ShortNames: []string{"svc"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() *corev1.Service { return &corev1.Service{} },
		NewList:    func() runtime.Object { return &corev1.ServiceList{} },

		ReturnDeleted:       true,
		Default:             setDefaults,
		Prepare:             func(_ context.Context, s *corev1.Service) { s.Status = corev1.ServiceStatus{} },
		Validate:            check,
		PrepareUpdate:       prepareUpdate,
		ValidateUpdate:      checkUpdate,
		Canonicalize:        canonicalize,
		Warn:                warn,
		AllowCreateOnUpdate: true,
		Status: &registry.SubresourceRules[*corev1.Service]{
			PrepareUpdate:  func(_ context.Context, s, old *corev1.Service) { s.Spec = old.Spec },
			ValidateUpdate: checkStatusUpdate,
			Warn:           warnStatus,
		},
		Selectable: func(s *corev1.Service) fields.Set {
			return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
		},
		Table:     table(),
		Connect:   connect,
		Configure: reserve,
	})
}

func headless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

// needsClusterIP says whether the service has a place for a cluster address, be it "None".
func needsClusterIP(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeExternalName }

func onNodePorts(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || balanced(s)
}

func balanced(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeLoadBalancer }

// givesNodePorts says whether every port of the service is to have a node port.
func givesNodePorts(s *corev1.Service) bool {
	give := s.Spec.AllocateLoadBalancerNodePorts
	return s.Spec.Type == corev1.ServiceTypeNodePort || balanced(s) && (give == nil || *give)
}

// needsHealthCheck says whether nodes answer on a port of their own if they have an endpoint of the service.
func needsHealthCheck(s *corev1.Service) bool {
	return balanced(s) && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// external says whether the service can be reached from outside.
func external(s *corev1.Service) bool {
	return onNodePorts(s) || s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}
