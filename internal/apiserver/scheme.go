package apiserver

import (
	"fmt"
	"iter"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"podium.dev/podium/internal/registry/kit"
)

// newScheme returns the scheme of the served groups. Each type is registered both as v1 and as the internal version
// that k8s.io/apiserver works with, so a conversion between them only changes the version.
func newScheme(groups []kit.Group) (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	aliased := map[schema.GroupVersion][]string{} // kinds whose internal type is that of another version
	for k := range kindsOf(groups) {
		for _, a := range k.Also {
			gv := a.GVK.GroupVersion()
			aliased[gv] = append(aliased[gv], a.GVK.Kind, a.GVK.Kind+"List")
		}
	}
	for _, g := range groups {
		for _, v := range g.Versions {
			if err := v.AddToScheme(s); err != nil {
				return nil, fmt.Errorf("register the types of %s: %w", v.GroupVersion, err)
			}
			addInternal(s, v.GroupVersion, aliased[v.GroupVersion])
		}
	}
	for k := range kindsOf(groups) {
		if err := addKind(s, k); err != nil {
			return nil, fmt.Errorf("register %s: %w", k.GVK, err)
		}
	}
	return s, addOptions(s)
}

// kindsOf yields the kinds of all groups.
func kindsOf(groups []kit.Group) iter.Seq[kit.Kind] {
	return func(yield func(kit.Kind) bool) {
		for _, g := range groups {
			for _, k := range g.Kinds {
				if !yield(k) {
					return
				}
			}
		}
	}
}

// addInternal makes the types of a group's version its internal types too, but for those named.
func addInternal(s *runtime.Scheme, gv schema.GroupVersion, except []string) {
	internal := schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}
	metaPackage := reflect.TypeFor[metav1.ObjectMeta]().PkgPath()
	for kind, t := range s.KnownTypes(gv) {
		if t.PkgPath() == metaPackage || slices.Contains(except, kind) {
			continue
		}
		s.AddKnownTypeWithName(internal.WithKind(kind), reflect.New(t).Interface().(runtime.Object))
	}
}

func addKind(s *runtime.Scheme, k kit.Kind) error {
	if k.Default != nil {
		s.AddTypeDefaultingFunc(k.New(), func(o any) { k.Default(o.(runtime.Object)) })
	}
	if err := s.AddFieldLabelConversionFunc(k.GVK, fieldLabels(k)); err != nil {
		return err
	}
	for _, a := range k.Also {
		if err := addAlias(s, k, a); err != nil {
			return fmt.Errorf("as %s: %w", a.GVK, err)
		}
	}
	return nil
}

// fieldLabels returns the function that checks the field names of a fieldSelector. Its errors have the words of
// Kubernetes.
func fieldLabels(k kit.Kind) runtime.FieldLabelConversionFunc {
	plain := len(k.SelectableFields) <= 1 || k.Namespaced && len(k.SelectableFields) <= 2
	return func(label, value string) (string, string, error) {
		switch {
		case slices.Contains(k.SelectableFields, label):
			return label, value, nil
		case k.FieldAliases[label] != "":
			return k.FieldAliases[label], value, nil
		case k.UnknownField != nil:
			return "", "", k.UnknownField(label)
		case plain:
			return runtime.DefaultMetaV1FieldSelectorConversion(label, value)
		default:
			return "", "", fmt.Errorf("field label not supported: %s", label)
		}
	}
}

// addAlias registers another form of a kind: the kind's Go type is the internal type of its group too.
func addAlias(s *runtime.Scheme, k kit.Kind, a kit.Alias) error {
	internal := schema.GroupVersion{Group: a.GVK.Group, Version: runtime.APIVersionInternal}
	s.AddKnownTypeWithName(internal.WithKind(a.GVK.Kind), k.New())
	s.AddKnownTypeWithName(internal.WithKind(a.GVK.Kind+"List"), k.NewList())
	if a.Default != nil {
		s.AddTypeDefaultingFunc(a.New(), func(o any) { a.Default(o.(runtime.Object)) })
	}
	labels := a.FieldLabel
	if labels == nil {
		labels = fieldLabels(k)
	}
	if err := s.AddFieldLabelConversionFunc(a.GVK, labels); err != nil {
		return err
	}
	one := func(f func(in, out runtime.Object) error) conversion.ConversionFunc {
		return func(in, out any, _ conversion.Scope) error {
			return f(in.(runtime.Object), out.(runtime.Object))
		}
	}
	for _, c := range []struct {
		in, out runtime.Object
		f       conversion.ConversionFunc
	}{
		{k.New(), a.New(), one(a.Convert)},
		{a.New(), k.New(), one(a.Revert)},
		{k.NewList(), a.NewList(), convertList(a.New, a.Convert)},
		{a.NewList(), k.NewList(), convertList(k.New, a.Revert)},
	} {
		if err := s.AddConversionFunc(c.in, c.out, c.f); err != nil {
			return err
		}
	}
	return nil
}

func convertList(newItem func() runtime.Object, one func(in, out runtime.Object) error) conversion.ConversionFunc {
	return func(in, out any, _ conversion.Scope) error {
		var items []runtime.Object
		err := meta.EachListItem(in.(runtime.Object), func(o runtime.Object) error {
			item := newItem()
			items = append(items, item)
			return one(o, item)
		})
		if err != nil {
			return err
		}
		from, err := meta.ListAccessor(in)
		if err != nil {
			return err
		}
		to, err := meta.ListAccessor(out)
		if err != nil {
			return err
		}
		to.SetResourceVersion(from.GetResourceVersion())
		to.SetContinue(from.GetContinue())
		to.SetRemainingItemCount(from.GetRemainingItemCount())
		return meta.SetList(out.(runtime.Object), items)
	}
}
