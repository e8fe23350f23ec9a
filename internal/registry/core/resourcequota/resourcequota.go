// Package resourcequota serves core/v1 resourcequotas.
package resourcequota

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/specstatus"
	"podium.dev/podium/internal/registry/kit/validate"
)

var parts = specstatus.Halves[*corev1.ResourceQuota, corev1.ResourceQuotaSpec, corev1.ResourceQuotaStatus]{
	Spec:   func(q *corev1.ResourceQuota) *corev1.ResourceQuotaSpec { return &q.Spec },
	Status: func(q *corev1.ResourceQuota) *corev1.ResourceQuotaStatus { return &q.Status },
}

// Kind returns the kind ResourceQuota.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.ResourceQuota]{
		GVK:        corev1.SchemeGroupVersion.WithKind("ResourceQuota"),
		Resource:   "resourcequotas",
		Singular:   "resourcequota",
		ShortNames: []string{"quota"},
		Namespaced: true,
		New:        func() *corev1.ResourceQuota { return &corev1.ResourceQuota{} },
		NewList:    func() runtime.Object { return &corev1.ResourceQuotaList{} },

		ReturnDeleted: true,
		Default: func(q *corev1.ResourceQuota) {
			validate.RoundUp(q.Spec.Hard)
			validate.RoundUp(q.Status.Hard)
			validate.RoundUp(q.Status.Used)
		},
		Prepare:        parts.Prepare,
		Validate:       check,
		PrepareUpdate:  parts.PrepareUpdate,
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Status: &kit.SubresourceRules[*corev1.ResourceQuota]{
			PrepareUpdate:  parts.PrepareStatusUpdate,
			ValidateUpdate: checkStatusUpdate,
		},
		Table: &kit.Table[*corev1.ResourceQuota]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Request", "Request represents a minimum amount of cpu/memory that a container may consume."),
				column.Text("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."),
				column.Age(),
			},
			Row: func(q *corev1.ResourceQuota) ([]any, []metav1.TableRowCondition) {
				requests, limits := used(&q.Status)
				return []any{q.Name, requests, limits, column.Since(q.CreationTimestamp)}, nil
			},
		},
	})
}

// warn warns about a new quota that allows more requests than limits.
func warn(_ context.Context, q, old *corev1.ResourceQuota) (warnings []string) {
	if old != nil {
		return nil
	}
	for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceStorage, corev1.ResourceEphemeralStorage} {
		name := "requests." + resource
		request, ok := q.Spec.Hard[name]
		if !ok && (resource == corev1.ResourceCPU || resource == corev1.ResourceMemory) {
			name = resource
			request, ok = q.Spec.Hard[name]
		}
		limit, limited := q.Spec.Hard["limits."+resource]
		if ok && limited && request.Cmp(limit) > 0 {
			warnings = append(warnings, fmt.Sprintf("ResourceQuota %s (%s) should be less than %s (%s)", name, request.String(), "limits."+resource, limit.String()))
		}
	}
	return warnings
}

// used formats used and hard amounts, requests and limits apart: "pods: 1/10, requests.cpu: 0/2".
func used(s *corev1.ResourceQuotaStatus) (requests, limits string) {
	var r, l []string
	for _, name := range slices.Sorted(maps.Keys(s.Hard)) {
		has, hard := s.Used[name], s.Hard[name]
		words := fmt.Sprintf("%s: %s/%s", name, has.String(), hard.String())
		if strings.HasPrefix(string(name), "limits.") {
			l = append(l, words)
		} else {
			r = append(r, words)
		}
	}
	return strings.Join(r, ", "), strings.Join(l, ", ")
}
