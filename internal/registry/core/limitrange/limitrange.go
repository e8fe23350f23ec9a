// Package limitrange serves core/v1 limitranges.
package limitrange

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind LimitRange.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.LimitRange]{
		GVK:        corev1.SchemeGroupVersion.WithKind("LimitRange"),
		Resource:   "limitranges",
		Singular:   "limitrange",
		ShortNames: []string{"limits"},
		Namespaced: true,
		New:        func() *corev1.LimitRange { return &corev1.LimitRange{} },
		NewList:    func() runtime.Object { return &corev1.LimitRangeList{} },

		Default: setDefaults,
		Prepare: func(_ context.Context, l *corev1.LimitRange) {
			if l.Name == "" {
				l.Name = string(uuid.NewUUID())
			}
		},
		Validate:            func(_ context.Context, l *corev1.LimitRange) field.ErrorList { return check(l) },
		ValidateUpdate:      func(_ context.Context, l, _ *corev1.LimitRange) field.ErrorList { return check(l) },
		AllowCreateOnUpdate: true,
	})
}

func setDefaults(l *corev1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		if item.Type == corev1.LimitTypeContainer {
			defaultContainer(item)
		}
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			validate.RoundUp(list)
		}
	}
}

// defaultContainer sets a missing default limit to the maximum, and a missing default request to the default
// limit or else the minimum.
func defaultContainer(item *corev1.LimitRangeItem) {
	if item.Default == nil {
		item.Default = corev1.ResourceList{}
	}
	if item.DefaultRequest == nil {
		item.DefaultRequest = corev1.ResourceList{}
	}
	fill(item.Default, item.Max)
	fill(item.DefaultRequest, item.Default)
	fill(item.DefaultRequest, item.Min)
}

// fill adds the entries that are missing in a list.
func fill(list, from corev1.ResourceList) {
	for name, value := range from {
		if _, ok := list[name]; !ok {
			list[name] = value.DeepCopy()
		}
	}
}
