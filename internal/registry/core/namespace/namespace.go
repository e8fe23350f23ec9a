// Package namespace serves core/v1 namespaces. A namespace is deleted in two steps: a delete marks it
// Terminating, and it is removed when its contents are deleted, which the removal of the last finalizer through
// /finalize signals.
package namespace

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind Namespace.
func Kind() kit.Kind { return kit.Define(definition()) }

func definition() kit.Definition[*corev1.Namespace] {
	d := kit.Definition[*corev1.Namespace]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Namespace"),
		Resource:   "namespaces",
		Singular:   "namespace",
		ShortNames: []string{"ns"},
		New:        func() *corev1.Namespace { return &corev1.Namespace{} },
		NewList:    func() runtime.Object { return &corev1.NamespaceList{} },

		ReturnDeleted:  true,
		Default:        setDefaults,
		Prepare:        prepare,
		Validate:       check,
		PrepareUpdate:  prepareUpdate,
		ValidateUpdate: checkUpdate,
		Canonicalize:   labelName,
		Status: &kit.SubresourceRules[*corev1.Namespace]{
			PrepareUpdate:  func(_ context.Context, ns, old *corev1.Namespace) { ns.Spec = old.Spec },
			ValidateUpdate: checkStatusUpdate,
		},
		Selectable: func(ns *corev1.Namespace) fields.Set {
			return fields.Set{"status.phase": string(ns.Status.Phase)}
		},
		Table: table(),
		Configure: func(env kit.Env) error {
			env.Store.ShouldDeleteDuringUpdate = emptyAndDeleted
			return nil
		},
		Wrap: endInTwoSteps,
	}
	d.Connect = func(env kit.Env) (map[string]rest.Storage, error) {
		return map[string]rest.Storage{"finalize": finalizeREST(env, d)}, nil
	}
	return d
}

// setDefaults also runs on every read, so that a namespace stored without the name label has it.
func setDefaults(ns *corev1.Namespace) {
	// A generated name is not known yet; labelName then runs later.
	if ns.Name != "" {
		labelName(ns)
	}
	if ns.Status.Phase == "" {
		ns.Status.Phase = corev1.NamespaceActive
	}
}

func labelName(ns *corev1.Namespace) {
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func prepare(_ context.Context, ns *corev1.Namespace) {
	ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
}

// prepareUpdate keeps what only /finalize and /status may change.
func prepareUpdate(_ context.Context, ns, old *corev1.Namespace) {
	ns.Spec.Finalizers = old.Spec.Finalizers
	ns.Status = old.Status
}

func check(_ context.Context, ns *corev1.Namespace) field.ErrorList {
	faults := validate.Meta(&ns.ObjectMeta, false, apivalidation.ValidateNamespaceName)
	for _, name := range ns.Spec.Finalizers {
		faults = append(faults, finalizer(name, field.NewPath("spec", "finalizers"))...)
	}
	return faults
}

func checkUpdate(ctx context.Context, ns, old *corev1.Namespace) field.ErrorList {
	return append(check(ctx, ns), validate.MetaUpdate(&ns.ObjectMeta, &old.ObjectMeta)...)
}

func finalizer(name corev1.FinalizerName, path *field.Path) field.ErrorList {
	faults := apivalidation.ValidateFinalizerName(string(name), path)
	return append(faults, validate.KubeFinalizer(string(name), path)...)
}

// checkStatusUpdate requires that the phase matches the deletion timestamp.
func checkStatusUpdate(_ context.Context, ns, old *corev1.Namespace) field.ErrorList {
	faults := validate.MetaUpdate(&ns.ObjectMeta, &old.ObjectMeta)
	path := field.NewPath("status", "Phase")
	switch phase := ns.Status.Phase; {
	case ns.DeletionTimestamp.IsZero() && phase != corev1.NamespaceActive:
		faults = append(faults, field.Invalid(path, phase, "may only be 'Active' if `deletionTimestamp` is empty"))
	case !ns.DeletionTimestamp.IsZero() && phase != corev1.NamespaceTerminating:
		faults = append(faults, field.Invalid(path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"))
	}
	return faults
}

// emptyAndDeleted reports whether an update ends the namespace: it is being deleted and has no finalizers.
func emptyAndDeleted(ctx context.Context, key string, obj, existing runtime.Object) bool {
	ns, ok := obj.(*corev1.Namespace)
	return ok && len(ns.Spec.Finalizers) == 0 && genericregistry.ShouldDeleteDuringUpdate(ctx, key, obj, existing)
}

func table() *kit.Table[*corev1.Namespace] {
	return &kit.Table[*corev1.Namespace]{
		Columns: []column.Definition{
			column.Name(),
			column.Text("Status", "The status of the namespace"),
			column.Age(),
		},
		Row: func(ns *corev1.Namespace) ([]any, []metav1.TableRowCondition) {
			return []any{ns.Name, string(ns.Status.Phase), column.Since(ns.CreationTimestamp)}, nil
		},
	}
}
