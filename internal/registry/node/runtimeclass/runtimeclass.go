// Package runtimeclass serves node.k8s.io/v1 runtimeclasses.
package runtimeclass

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind RuntimeClass.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*nodev1.RuntimeClass]{
		GVK:      nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
		Resource: "runtimeclasses",
		Singular: "runtimeclass",
		New:      func() *nodev1.RuntimeClass { return &nodev1.RuntimeClass{} },
		NewList:  func() runtime.Object { return &nodev1.RuntimeClassList{} },

		Default:                 setDefaults,
		Validate:                check,
		ValidateUpdate:          checkUpdate,
		Warn:                    warn,
		AllowCreateOnUpdate:     true,
		DenyUnconditionalUpdate: true,
		Table: &kit.Table[*nodev1.RuntimeClass]{
			Columns: []column.Definition{column.Name(), column.Text("Handler", ""), column.Age()},
			Row: func(c *nodev1.RuntimeClass) ([]any, []metav1.TableRowCondition) {
				return []any{c.Name, c.Handler, column.Since(c.CreationTimestamp)}, nil
			},
		},
	})
}

func setDefaults(c *nodev1.RuntimeClass) {
	if c.Overhead != nil {
		validate.RoundUp(c.Overhead.PodFixed)
	}
}

func check(_ context.Context, c *nodev1.RuntimeClass) field.ErrorList {
	return validate.InOrder(checkRest(c), checkHandler(c.Handler, c.Handler))
}

// checkHandler requires a valid and unchanged handler name.
func checkHandler(now, old string) (faults field.ErrorList) {
	path := field.NewPath("handler")
	if now == old {
		for _, fault := range content.IsDNS1123Label(now) {
			faults = append(faults, field.Invalid(path, now, fault))
		}
		faults = validate.Declared(faults...)
	} else if now != "" {
		faults = validate.Label(now, path)
	}
	if now == "" {
		faults = field.ErrorList{validate.Missing(path)}
	}
	return append(validate.Same(now, old, path), faults...)
}

func checkRest(c *nodev1.RuntimeClass) field.ErrorList {
	faults := apivalidation.ValidateObjectMeta(&c.ObjectMeta, false, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	if c.Overhead != nil {
		faults = append(faults, checkOverhead(c.Overhead.PodFixed, field.NewPath("overhead"))...)
	}
	if c.Scheduling != nil {
		faults = append(faults, checkScheduling(c.Scheduling, field.NewPath("scheduling"))...)
	}
	return faults
}

// checkOverhead validates the overhead of the sandbox by the rules for container limits.
func checkOverhead(fixed corev1.ResourceList, path *field.Path) (faults field.ErrorList) {
	base, pages := false, false
	for name, value := range fixed {
		at := path.Child("limits").Key(string(name))
		faults = append(faults, validate.ContainerResourceName(name, at)...)
		faults = append(faults, validate.ResourceQuantity(name, value, at)...)
		if validate.IsHugePages(name) {
			pages = true
			faults = append(faults, validate.HugePages(name, value, at)...)
		}
		base = base || name == corev1.ResourceCPU || name == corev1.ResourceMemory
	}
	if pages && !base {
		faults = append(faults, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return faults
}

func checkScheduling(s *nodev1.Scheduling, path *field.Path) field.ErrorList {
	faults := metav1validation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))
	at := path.Child("tolerations")
	faults = append(faults, validate.Tolerations(s.Tolerations, at, false)...)
	seen := sets.New[corev1.Toleration]()
	for i, t := range s.Tolerations {
		key := corev1.Toleration{Key: t.Key, Operator: t.Operator, Value: t.Value, Effect: t.Effect}
		if seen.Has(key) {
			faults = append(faults, field.Duplicate(at.Index(i), validate.Shown(t)))
		}
		seen.Insert(key)
	}
	return faults
}

func checkUpdate(_ context.Context, c, old *nodev1.RuntimeClass) field.ErrorList {
	return validate.InOrder(
		checkHandler(c.Handler, old.Handler),
		checkRest(c),
		apivalidation.ValidateObjectMetaUpdate(&c.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata")),
	)
}

func warn(_ context.Context, c, _ *nodev1.RuntimeClass) (warnings []string) {
	if c.Scheduling == nil {
		return nil
	}
	for _, w := range validate.OldNodeLabels(c.Scheduling.NodeSelector) {
		warnings = append(warnings, field.NewPath("scheduling", "nodeSelector").String()+": "+w)
	}
	return warnings
}
