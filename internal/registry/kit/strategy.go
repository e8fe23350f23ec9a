package kit

import (
	"context"

	"k8s.io/apimachinery/pkg/api/operation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// strategy implements the strategies of the generic store for a Definition.
type strategy[T Object] struct {
	runtime.ObjectTyper
	names.NameGenerator
	d     Definition[T]
	reset map[fieldpath.APIVersion]*fieldpath.Set
}

func newStrategy[T Object](d Definition[T], typer runtime.ObjectTyper) *strategy[T] {
	s := &strategy[T]{ObjectTyper: typer, NameGenerator: names.SimpleNameGenerator, d: d}
	switch {
	case d.ResetFields != nil:
		s.reset = resetFields(d, d.ResetFields)
	case d.Status != nil:
		s.reset = resetFields(d, [][]string{{"status"}})
	}
	return s
}

func resetFields[T Object](d Definition[T], paths [][]string) map[fieldpath.APIVersion]*fieldpath.Set {
	set := fieldpath.NewSet()
	for _, p := range paths {
		parts := make([]any, len(p))
		for i := range p {
			parts[i] = p[i]
		}
		set.Insert(fieldpath.MakePathOrDie(parts...))
	}
	all := map[fieldpath.APIVersion]*fieldpath.Set{fieldpath.APIVersion(d.GVK.GroupVersion().String()): set}
	for _, a := range d.Also {
		all[fieldpath.APIVersion(a.GVK.GroupVersion().String())] = set
	}
	return all
}

func (s *strategy[T]) NamespaceScoped() bool                    { return s.d.Namespaced }
func (s *strategy[T]) AllowCreateOnUpdate(context.Context) bool { return s.d.AllowCreateOnUpdate }
func (s *strategy[T]) AllowUnconditionalUpdate(context.Context) bool {
	return !s.d.DenyUnconditionalUpdate
}
func (s *strategy[T]) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set { return s.reset }

func (s *strategy[T]) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	if s.d.Prepare != nil {
		s.d.Prepare(ctx, obj.(T))
	}
}

func (s *strategy[T]) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	if s.d.Validate == nil {
		return nil
	}
	return firstFaults(s.d.Validate(ctx, obj.(T)))
}

func (s *strategy[T]) WarningsOnCreate(ctx context.Context, obj runtime.Object) []string {
	var none T
	return s.warn(ctx, obj.(T), none)
}

func (s *strategy[T]) WarningsOnUpdate(ctx context.Context, obj, old runtime.Object) []string {
	return s.warn(ctx, obj.(T), old.(T))
}

func (s *strategy[T]) warn(ctx context.Context, obj, old T) []string {
	if s.d.Warn == nil {
		return nil
	}
	return firstWarnings(s.d.Warn(ctx, obj, old))
}

func (s *strategy[T]) Canonicalize(obj runtime.Object) {
	if s.d.Canonicalize != nil {
		s.d.Canonicalize(obj.(T))
	}
}

func (s *strategy[T]) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	if s.d.PrepareUpdate != nil {
		s.d.PrepareUpdate(ctx, obj.(T), old.(T))
	}
}

func (s *strategy[T]) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	if s.d.ValidateUpdate == nil {
		return nil
	}
	return firstFaults(s.d.ValidateUpdate(ctx, obj.(T), old.(T)))
}

var _ rest.DeclarativeValidationStrategy = &strategy[Object]{}

// ValidateDeclaratively implements rest.DeclarativeValidationStrategy. It runs last, and removes duplicates of
// errors that several rules found.
func (s *strategy[T]) ValidateDeclaratively(_ context.Context, _, _ runtime.Object, found field.ErrorList, _ operation.Type, _ rest.DeclarativeValidationConfig) field.ErrorList {
	return found.Filter()
}

// DeclarativeValidationConfig implements rest.DeclarativeValidationStrategy.
func (s *strategy[T]) DeclarativeValidationConfig(context.Context, runtime.Object, runtime.Object) rest.DeclarativeValidationConfig {
	return rest.DeclarativeValidationConfig{}
}

// DefaultGarbageCollectionPolicy implements rest.GarbageCollectionDeleteStrategy.
func (s *strategy[T]) DefaultGarbageCollectionPolicy(context.Context) rest.GarbageCollectionPolicy {
	if s.d.OrphanByDefault {
		return rest.OrphanDependents
	}
	return rest.DeleteDependents
}

// forDelete returns a strategy that is graceful only if the kind is: the generic store decides by the methods
// that a strategy has.
func (s *strategy[T]) forDelete() rest.RESTDeleteStrategy {
	if s.d.GracefulDelete == nil {
		return s
	}
	return gracefulStrategy[T]{s}
}

type gracefulStrategy[T Object] struct{ *strategy[T] }

// CheckGracefulDelete implements rest.RESTGracefulDeleteStrategy.
func (s gracefulStrategy[T]) CheckGracefulDelete(ctx context.Context, obj runtime.Object, options *metav1.DeleteOptions) bool {
	return s.d.GracefulDelete(ctx, obj.(T), options)
}
