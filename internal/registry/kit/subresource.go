package kit

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Subresource serves get, update and patch of part of a stored object, over the storage of the main store.
type Subresource struct {
	store *genericregistry.Store
}

var (
	_ rest.Patcher             = &Subresource{}
	_ rest.ResetFieldsStrategy = &Subresource{}
	_ rest.TableConvertor      = &Subresource{}
)

// NewSubresource returns a subresource such as status. typer is the scheme; nil means that of the main store.
func NewSubresource[T Object](env Env, typer runtime.ObjectTyper, d Definition[T], rules SubresourceRules[T]) *Subresource {
	if typer == nil {
		typer = env.Store.CreateStrategy
	}
	paths := rules.ResetFields
	if paths == nil {
		paths = [][]string{{"spec"}}
	}
	s := &subresourceStrategy[T]{strategy: newStrategy(d, typer), rules: rules}
	s.reset = resetFields(d, paths)
	store := *env.Store
	store.UpdateStrategy = s
	store.ResetFieldsStrategy = s
	return &Subresource{store: &store}
}

type subresourceStrategy[T Object] struct {
	*strategy[T]
	rules SubresourceRules[T]
}

func (s *subresourceStrategy[T]) AllowCreateOnUpdate(context.Context) bool { return false }

func (s *subresourceStrategy[T]) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	if s.rules.PrepareUpdate != nil {
		s.rules.PrepareUpdate(ctx, obj.(T), old.(T))
	}
}

func (s *subresourceStrategy[T]) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	if s.rules.ValidateUpdate == nil {
		return nil
	}
	return firstFaults(s.rules.ValidateUpdate(ctx, obj.(T), old.(T)))
}

func (s *subresourceStrategy[T]) WarningsOnUpdate(ctx context.Context, obj, old runtime.Object) []string {
	if s.rules.Warn == nil {
		return nil
	}
	return firstWarnings(s.rules.Warn(ctx, obj.(T), old.(T)))
}

// New implements rest.Storage.
func (r *Subresource) New() runtime.Object { return r.store.New() }

// Destroy implements rest.Storage. The main store owns the resources.
func (r *Subresource) Destroy() {}

// Get implements rest.Getter.
func (r *Subresource) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return r.store.Get(ctx, name, options)
}

// Update implements rest.Updater. It never creates an object.
func (r *Subresource) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return r.store.Update(ctx, name, info, create, update, false, options)
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (r *Subresource) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return r.store.GetResetFields()
}

// ConvertToTable implements rest.TableConvertor.
func (r *Subresource) ConvertToTable(ctx context.Context, obj runtime.Object, options runtime.Object) (*metav1.Table, error) {
	return r.store.ConvertToTable(ctx, obj, options)
}
