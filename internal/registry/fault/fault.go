// Package fault collects what is wrong with an object, in Kubernetes' words and in the order found.
package fault

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// List is a growing list of faults. The zero value is ready for use.
type List field.ErrorList

// Errors answers with the faults found so far.
func (l List) Errors() field.ErrorList { return field.ErrorList(l) }

// Add takes over faults that somebody else found.
func (l *List) Add(errs ...*field.Error) { *l = append(*l, errs...) }

// Required says that a value is missing.
func (l *List) Required(path *field.Path, detail string) { l.Add(field.Required(path, detail)) }

// Invalid says that a value is not acceptable, and why.
func (l *List) Invalid(path *field.Path, value any, detail string) {
	l.Add(field.Invalid(path, value, detail))
}

// InvalidEach says why a value is not acceptable, once for each reason.
func (l *List) InvalidEach(path *field.Path, value any, details []string) {
	for _, detail := range details {
		l.Invalid(path, value, detail)
	}
}

// Forbidden says that a field may not be used here.
func (l *List) Forbidden(path *field.Path, detail string) { l.Add(field.Forbidden(path, detail)) }

// Duplicate says that a value occurs twice where it must be unique.
func (l *List) Duplicate(path *field.Path, value any) { l.Add(field.Duplicate(path, value)) }

// NotFound says that a value refers to something that is not there.
func (l *List) NotFound(path *field.Path, value any) { l.Add(field.NotFound(path, value)) }

// TooLong says that a text is longer than max bytes. The text itself is not repeated.
func (l *List) TooLong(path *field.Path, max int) { l.Add(field.TooLong(path, "", max)) }

// TooMany says that a list has more than max entries.
func (l *List) TooMany(path *field.Path, actual, max int) {
	l.Add(field.TooMany(path, actual, max))
}

// OneOf says that a value is none of the supported ones, which are told in the given order. It answers
// whether the value is supported.
func OneOf[T ~string](l *List, path *field.Path, value T, supported ...T) bool {
	if slices.Contains(supported, value) {
		return true
	}
	l.Add(field.NotSupported(path, value, supported))
	return false
}

// OneOfRequired is OneOf for a value that must not be empty either.
func OneOfRequired[T ~string](l *List, path *field.Path, value T, supported ...T) {
	if value == "" {
		l.Required(path, "")
		return
	}
	OneOf(l, path, value, supported...)
}

// Keys answers with the keys of a map in order, so that faults come in the same order each time.
func Keys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
