// Package specstatus keeps an object's spec and status apart: a client of the main resource may change only the
// spec, a client of /status only the status.
package specstatus

import (
	"context"

	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"podium.dev/podium/internal/registry/kit"
)

// Halves accesses the spec S and the status U of an object of type T.
type Halves[T kit.Object, S, U any] struct {
	// Spec and Status return pointers to the two parts of an object.
	Spec   func(T) *S
	Status func(T) *U
	// Generation is set if the kind counts changes of its spec in metadata.generation.
	Generation bool
}

// Prepare clears the status of a new object and initializes its generation.
func (h Halves[T, S, U]) Prepare(_ context.Context, obj T) {
	var none U
	*h.Status(obj) = none
	if h.Generation {
		obj.SetGeneration(1)
	}
}

// PrepareUpdate keeps the old status and counts a change of the spec.
func (h Halves[T, S, U]) PrepareUpdate(_ context.Context, obj, old T) {
	*h.Status(obj) = *h.Status(old)
	if h.Generation {
		Count(obj, old, h.Spec(obj), h.Spec(old))
	}
}

// PrepareStatusUpdate keeps the old spec.
func (h Halves[T, S, U]) PrepareStatusUpdate(_ context.Context, obj, old T) {
	*h.Spec(obj) = *h.Spec(old)
}

// Count sets the generation of obj, which is one more than the old object's if the wanted part changed.
func Count(obj, old kit.Object, wanted, oldWanted any) {
	generation := old.GetGeneration()
	if !apiequality.Semantic.DeepEqual(wanted, oldWanted) {
		generation++
	}
	obj.SetGeneration(generation)
}
