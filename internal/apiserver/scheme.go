package apiserver

import (
	"fmt"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"podium.dev/podium/internal/registry"
)

// groups are the API groups whose types the server knows. A group is served when a kind of it is.
var groups = []struct {
	gv  schema.GroupVersion
	add func(*runtime.Scheme) error
}{
	{corev1.SchemeGroupVersion, corev1.AddToScheme},
	{appsv1.SchemeGroupVersion, appsv1.AddToScheme},
	{authenticationv1.SchemeGroupVersion, authenticationv1.AddToScheme},
	{authorizationv1.SchemeGroupVersion, authorizationv1.AddToScheme},
	{autoscalingv1.SchemeGroupVersion, autoscalingv1.AddToScheme},
	{autoscalingv2.SchemeGroupVersion, autoscalingv2.AddToScheme},
	{batchv1.SchemeGroupVersion, batchv1.AddToScheme},
	{certificatesv1.SchemeGroupVersion, certificatesv1.AddToScheme},
	{coordinationv1.SchemeGroupVersion, coordinationv1.AddToScheme},
	{discoveryv1.SchemeGroupVersion, discoveryv1.AddToScheme},
	{eventsv1.SchemeGroupVersion, eventsv1.AddToScheme},
	{metricsv1beta1.SchemeGroupVersion, metricsv1beta1.AddToScheme},
	{networkingv1.SchemeGroupVersion, networkingv1.AddToScheme},
	{nodev1.SchemeGroupVersion, nodev1.AddToScheme},
	{policyv1.SchemeGroupVersion, policyv1.AddToScheme},
	{rbacv1.SchemeGroupVersion, rbacv1.AddToScheme},
	{schedulingv1.SchemeGroupVersion, schedulingv1.AddToScheme},
	{storagev1.SchemeGroupVersion, storagev1.AddToScheme},
}

// newScheme makes the scheme of the served kinds. Each type is known both as v1 and as the internal version
// that k8s.io/apiserver works with, so converting between them is nothing but a change of the version.
func newScheme(kinds []registry.Kind) (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	aliased := map[schema.GroupVersion][]string{} // kinds whose internal type is that of another version
	for _, k := range kinds {
		for _, a := range k.Also {
			gv := a.GVK.GroupVersion()
			aliased[gv] = append(aliased[gv], a.GVK.Kind, a.GVK.Kind+"List")
		}
	}
	for _, g := range groups {
		if err := g.add(s); err != nil {
			return nil, fmt.Errorf("register the types of %s: %w", g.gv, err)
		}
		addInternal(s, g.gv, aliased[g.gv])
	}
	for _, k := range kinds {
		if err := addKind(s, k); err != nil {
			return nil, fmt.Errorf("register %s: %w", k.GVK, err)
		}
	}
	return s, addOptions(s)
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

func addKind(s *runtime.Scheme, k registry.Kind) error {
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

// fieldLabels answers for the names in a fieldSelector, with Kubernetes' words for an unknown one.
func fieldLabels(k registry.Kind) runtime.FieldLabelConversionFunc {
	plain := len(k.SelectableFields) <= 1 || k.Namespaced && len(k.SelectableFields) <= 2
	return func(label, value string) (string, string, error) {
		switch {
		case slices.Contains(k.SelectableFields, label):
			return label, value, nil
		case k.GVK.Kind == "Pod" && label == "spec.host": // its name before v1
			return "spec.nodeName", value, nil
		case k.GVK.Group == batchv1.GroupName && k.GVK.Kind == "Job":
			return "", "", fmt.Errorf("field label %q not supported for Job", label)
		case plain:
			return runtime.DefaultMetaV1FieldSelectorConversion(label, value)
		default:
			return "", "", fmt.Errorf("field label not supported: %s", label)
		}
	}
}

// addAlias registers another form of a kind: the kind's Go type is the internal type of its group too.
func addAlias(s *runtime.Scheme, k registry.Kind, a registry.Alias) error {
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
