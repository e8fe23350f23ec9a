package kit

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/client-go/tools/cache"
)

// Kind is a Definition without its type parameter: what the API server installs.
type Kind struct {
	GVK        schema.GroupVersionKind
	Resource   string
	Singular   string
	ShortNames []string
	Categories []string
	Namespaced bool

	New     func() runtime.Object
	NewList func() runtime.Object
	// Default is nil if the kind has no defaults.
	Default func(runtime.Object)
	// SelectableFields are the labels that a fieldSelector may name, including metadata.name and
	// metadata.namespace.
	SelectableFields []string
	// FieldAliases, UnknownField and StorePath are those of the Definition.
	FieldAliases map[string]string
	UnknownField func(label string) error
	StorePath    string
	// Also are the other forms in which the kind's stores are served.
	Also []Alias

	build func(Env, runtime.ObjectTyper, generic.RESTOptionsGetter) (*genericregistry.Store, map[string]rest.Storage, error)
}

// GroupResource returns the group and resource of the kind.
func (k Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.GVK.Group, Resource: k.Resource}
}

// Storage creates the kind's main store and everything that is served for the kind, by path in the API: "pods",
// "pods/status", "pods/log", …. It sets env.Store and env.Options.
func (k Kind) Storage(env Env, typer runtime.ObjectTyper, options generic.RESTOptionsGetter) (*genericregistry.Store, map[string]rest.Storage, error) {
	return k.build(env, typer, options)
}

// Define converts the definition of a kind into the form that the API server installs.
func Define[T Object](d Definition[T]) Kind {
	k := Kind{
		GVK: d.GVK, Resource: d.Resource, Singular: d.Singular, ShortNames: d.ShortNames,
		Categories: d.Categories, Namespaced: d.Namespaced,
		New:          func() runtime.Object { return d.New() },
		NewList:      d.NewList,
		Also:         d.Also,
		FieldAliases: d.FieldAliases, UnknownField: d.UnknownField, StorePath: d.StorePath,
	}
	if d.Default != nil {
		k.Default = func(o runtime.Object) { d.Default(o.(T)) }
	}
	for f := range selectable(d, d.New()) {
		k.SelectableFields = append(k.SelectableFields, f)
	}
	k.build = func(env Env, typer runtime.ObjectTyper, options generic.RESTOptionsGetter) (*genericregistry.Store, map[string]rest.Storage, error) {
		return build(d, k, env, typer, options)
	}
	return k
}

// build creates the main store, the status store that shares its storage, and the kind's other subresources.
func build[T Object](d Definition[T], k Kind, env Env, typer runtime.ObjectTyper, options generic.RESTOptionsGetter) (*genericregistry.Store, map[string]rest.Storage, error) {
	main := newStrategy(d, typer)
	store := &genericregistry.Store{
		NewFunc:                   k.New,
		NewListFunc:               k.NewList,
		DefaultQualifiedResource:  k.GroupResource(),
		SingularQualifiedResource: schema.GroupResource{Group: d.GVK.Group, Resource: d.Singular},
		PredicateFunc: func(l labels.Selector, f fields.Selector) storage.SelectionPredicate {
			return storage.SelectionPredicate{Label: l, Field: f, GetAttrs: attributes(d)}
		},
		CreateStrategy:          main,
		UpdateStrategy:          main,
		DeleteStrategy:          main.forDelete(),
		ResetFieldsStrategy:     main,
		TableConvertor:          newTableConvertor(d, k.GroupResource()),
		EnableGarbageCollection: true,
		ReturnDeletedObject:     d.ReturnDeleted,
	}
	if d.TTLSeconds != nil {
		store.TTLFunc = func(obj runtime.Object, existing uint64, update bool) (uint64, error) {
			return d.TTLSeconds(obj.(T), existing, update)
		}
	}
	storeOptions := &generic.StoreOptions{RESTOptions: options, AttrFunc: attributes(d)}
	if f := d.WatchField; f != "" {
		store.PredicateFunc = func(l labels.Selector, fs fields.Selector) storage.SelectionPredicate {
			return storage.SelectionPredicate{Label: l, Field: fs, GetAttrs: attributes(d), IndexFields: []string{f}}
		}
		value := func(o runtime.Object) string { return d.Selectable(o.(T))[f] }
		storeOptions.TriggerFunc = storage.IndexerFuncs{f: value}
		storeOptions.Indexers = &cache.Indexers{storage.FieldIndex(f): func(o any) ([]string, error) {
			return []string{value(o.(runtime.Object))}, nil
		}}
	}
	if err := store.CompleteWithOptions(storeOptions); err != nil {
		return nil, nil, fmt.Errorf("create the store of %s: %w", k.GroupResource(), err)
	}
	env.Store, env.Options = store, options
	if d.Configure != nil { // before the subresources, which share what it sets
		if err := d.Configure(env); err != nil {
			return nil, nil, fmt.Errorf("configure the store of %s: %w", k.GroupResource(), err)
		}
	}
	served := &mainREST{Store: store, shortNames: d.ShortNames, categories: d.Categories}
	out := map[string]rest.Storage{d.Resource: served}
	if d.Wrap != nil {
		out[d.Resource] = d.Wrap(env, served)
	}
	if d.Status != nil {
		out[d.Resource+"/status"] = NewSubresource(env, typer, d, *d.Status)
	}
	if d.Connect != nil {
		more, err := d.Connect(env)
		if err != nil {
			return nil, nil, fmt.Errorf("create the subresources of %s: %w", k.GroupResource(), err)
		}
		for path, s := range more {
			out[d.Resource+"/"+path] = s
		}
	}
	if d.Beside != nil {
		maps.Copy(out, d.Beside(env))
	}
	return store, out, nil
}

// attributes returns the labels and selectable fields of an object.
func attributes[T Object](d Definition[T]) storage.AttrFunc {
	return func(o runtime.Object) (labels.Set, fields.Set, error) {
		obj, ok := o.(T)
		if !ok {
			return nil, nil, fmt.Errorf("%s: the object is a %T", d.Resource, o)
		}
		return obj.GetLabels(), selectable(d, obj), nil
	}
}

func selectable[T Object](d Definition[T], obj T) fields.Set {
	set := fields.Set{"metadata.name": obj.GetName()}
	if d.Namespaced {
		set["metadata.namespace"] = obj.GetNamespace()
	}
	if d.Selectable != nil {
		for f, v := range d.Selectable(obj) {
			set[f] = v
		}
	}
	return set
}

// Main is the main store of a kind, with every verb.
type Main interface {
	rest.StandardStorage
	rest.Scoper
	rest.SingularNameProvider
	rest.ShortNamesProvider
	rest.CategoriesProvider
	rest.StorageVersionProvider
	rest.ResetFieldsStrategy
}

// mainREST adds the kind's names in discovery to its store.
type mainREST struct {
	*genericregistry.Store
	shortNames, categories []string
}

var _ Main = &mainREST{}

// ShortNames implements rest.ShortNamesProvider.
func (r *mainREST) ShortNames() []string { return r.shortNames }

// Categories implements rest.CategoriesProvider.
func (r *mainREST) Categories() []string { return r.categories }
