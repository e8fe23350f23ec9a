// Package fielderrors collects the validation errors of an object, in Kubernetes' words and in the order found.
package fielderrors

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// List is a growing list of errors. The zero value is ready for use.
type List field.ErrorList

// Errors returns the errors found so far.
func (l List) Errors() field.ErrorList { return field.ErrorList(l) }

// Add appends errors.
func (l *List) Add(errs ...*field.Error) { *l = append(*l, errs...) }

// Required adds the error that a value is missing.
func (l *List) Required(path *field.Path, detail string) { l.Add(field.Required(path, detail)) }

// Invalid adds the error that a value is invalid, with the reason.
func (l *List) Invalid(path *field.Path, value any, detail string) {
	l.Add(field.Invalid(path, value, detail))
}

// InvalidEach adds an Invalid error for each reason.
func (l *List) InvalidEach(path *field.Path, value any, details []string) {
	for _, detail := range details {
		l.Invalid(path, value, detail)
	}
}

// Forbidden adds the error that a field must not be used here.
func (l *List) Forbidden(path *field.Path, detail string) { l.Add(field.Forbidden(path, detail)) }

// Duplicate adds the error that a value occurs twice where it must be unique.
func (l *List) Duplicate(path *field.Path, value any) { l.Add(field.Duplicate(path, value)) }

// NotFound adds the error that a value refers to something that does not exist.
func (l *List) NotFound(path *field.Path, value any) { l.Add(field.NotFound(path, value)) }

// TooLong adds the error that a text is longer than max bytes. The text itself is not repeated.
func (l *List) TooLong(path *field.Path, max int) { l.Add(field.TooLong(path, "", max)) }

// TooMany adds the error that a list has more than max entries.
func (l *List) TooMany(path *field.Path, actual, max int) {
	l.Add(field.TooMany(path, actual, max))
}

// OneOf adds an error unless the value is one of the supported ones, which the message lists in the given
// order. It reports whether the value is supported.
func OneOf[T ~string](l *List, path *field.Path, value T, supported ...T) bool {
	if slices.Contains(supported, value) {
		return true
	}
	l.Add(field.NotSupported(path, value, supported))
	return false
}

// OneOfRequired is OneOf for a value that must not be empty.
func OneOfRequired[T ~string](l *List, path *field.Path, value T, supported ...T) {
	if value == "" {
		l.Required(path, "")
		return
	}
	OneOf(l, path, value, supported...)
}

// Keys returns the sorted keys of a map, so that errors come in a stable order.
func Keys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
