// Package pod is the Pod kind: how Pods are stored, changed, deleted and shown, and what can be done with one
// through its subresources. What a Pod's spec may be is in package spec, what may change in it in package
// change.
package pod

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/registry/core/pod/change"
	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/podspec"
)

// Kind describes Pods to the API server.
func Kind() kit.Kind { return kit.Define(definition(clock.RealClock{})) }

func definition(clock clock.PassiveClock) kit.Definition[*corev1.Pod] {
	d := kit.Definition[*corev1.Pod]{
		GVK:          corev1.SchemeGroupVersion.WithKind("Pod"),
		Resource:     "pods",
		FieldAliases: map[string]string{"spec.host": "spec.nodeName"}, // its name before v1
		Singular:     "pod",
		ShortNames:   []string{"po"},
		Categories:   []string{"all"},
		Namespaced:   true,
		New:          func() *corev1.Pod { return &corev1.Pod{} },
		NewList:      func() runtime.Object { return &corev1.PodList{} },

		Default:        podspec.Default,
		Prepare:        rules{clock}.prepare,
		Validate:       validate,
		PrepareUpdate:  prepareUpdate,
		ValidateUpdate: validateUpdate(change.Update),
		Warn:           warn,
		Status: &kit.SubresourceRules[*corev1.Pod]{
			PrepareUpdate:  prepareStatus,
			ValidateUpdate: validateUpdate(change.Status),
			Warn:           warnStatus,
			ResetFields:    [][]string{{"spec"}, {"metadata", "deletionTimestamp"}, {"metadata", "ownerReferences"}},
		},
		GracefulDelete: gracefulDelete,
		ReturnDeleted:  true,
		Selectable:     selectable,
		WatchField:     "spec.nodeName",
		Table:          table(clock),
	}
	d.Connect = func(env kit.Env) (map[string]rest.Storage, error) { return subresources(env, d, clock), nil }
	d.Beside = func(env kit.Env) map[string]rest.Storage {
		return map[string]rest.Storage{"bindings": bindingsREST{&bindingREST{store: env.Store, clock: clock}}}
	}
	return d
}

func selectable(pod *corev1.Pod) fields.Set {
	ip := ""
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	return fields.Set{
		"spec.nodeName":            pod.Spec.NodeName,
		"spec.restartPolicy":       string(pod.Spec.RestartPolicy),
		"spec.schedulerName":       pod.Spec.SchedulerName,
		"spec.serviceAccountName":  pod.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(pod.Spec.HostNetwork),
		"status.phase":             string(pod.Status.Phase),
		"status.podIP":             ip,
		"status.nominatedNodeName": pod.Status.NominatedNodeName,
	}
}
