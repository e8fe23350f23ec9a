// Package configmap serves core/v1 configmaps.
package configmap

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind ConfigMap.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.ConfigMap]{
		GVK:        corev1.SchemeGroupVersion.WithKind("ConfigMap"),
		Resource:   "configmaps",
		Singular:   "configmap",
		ShortNames: []string{"cm"},
		Namespaced: true,
		New:        func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
		NewList:    func() runtime.Object { return &corev1.ConfigMapList{} },

		Validate:       func(_ context.Context, c *corev1.ConfigMap) field.ErrorList { return Check(c) },
		ValidateUpdate: checkUpdate,
		Table: &kit.Table[*corev1.ConfigMap]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Data", corev1.ConfigMap{}.SwaggerDoc()["data"]),
				column.Age(),
			},
			Row: func(c *corev1.ConfigMap) ([]any, []metav1.TableRowCondition) {
				return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), column.Since(c.CreationTimestamp)}, nil
			},
		},
	})
}

// Check returns all errors in a new ConfigMap.
func Check(c *corev1.ConfigMap) field.ErrorList {
	faults := validate.Meta(&c.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	data := field.NewPath("data")
	size := 0
	for key, value := range c.Data {
		faults = append(faults, validate.DataKey(data, key)...)
		if _, twice := c.BinaryData[key]; twice {
			faults = append(faults, field.Invalid(data.Key(key), key, "duplicate of key present in binaryData"))
		}
		size += len(value)
	}
	for key, value := range c.BinaryData {
		faults = append(faults, validate.DataKey(field.NewPath("binaryData"), key)...)
		size += len(value)
	}
	if size > corev1.MaxSecretSize {
		// The error is about the whole object, not about one of its fields.
		faults = append(faults, field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize))
	}
	return faults
}

func checkUpdate(_ context.Context, c, old *corev1.ConfigMap) field.ErrorList {
	faults := validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	if validate.Frozen(old.Immutable) {
		faults = append(faults, validate.StillFrozen(c.Immutable)...)
		faults = append(faults, validate.FrozenField(c.Data, old.Data, "data")...)
		faults = append(faults, validate.FrozenField(c.BinaryData, old.BinaryData, "binaryData")...)
	}
	return append(faults, Check(c)...)
}
