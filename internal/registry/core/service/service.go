// Package service serves core/v1 services. A service gets a cluster IP and, depending on its type, node ports.
// Both are allocated before it is stored and released when it is deleted.
package service

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"podium.dev/podium/internal/registry/kit"
)

// Kind returns the kind Service.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.Service]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Service"),
		Resource:   "services",
		StorePath:  "services/specs",
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
		Status: &kit.SubresourceRules[*corev1.Service]{
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

// needsClusterIP reports whether the service has a cluster IP, which may be "None".
func needsClusterIP(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeExternalName }

func onNodePorts(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || balanced(s)
}

func balanced(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeLoadBalancer }

// givesNodePorts reports whether every port of the service gets a node port.
func givesNodePorts(s *corev1.Service) bool {
	give := s.Spec.AllocateLoadBalancerNodePorts
	return s.Spec.Type == corev1.ServiceTypeNodePort || balanced(s) && (give == nil || *give)
}

// needsHealthCheck reports whether nodes serve a health check port for the service.
func needsHealthCheck(s *corev1.Service) bool {
	return balanced(s) && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// external reports whether the service can be reached from outside the cluster.
func external(s *corev1.Service) bool {
	return onNodePorts(s) || s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}
