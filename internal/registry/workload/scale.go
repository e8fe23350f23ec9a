package workload

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
)

// Scaled describes where a kind keeps the numbers of wanted and existing Pods.
type Scaled[T kit.Object] struct {
	GroupVersion schema.GroupVersion
	Resource     string
	Wanted       func(T) **int32
	Current      func(T) int32
	// Selector returns the selector of the Pods in the form of a list query.
	Selector func(T) (string, error)
}

// LabelSelector formats a label selector in the form of a list query.
func LabelSelector(s *metav1.LabelSelector) (string, error) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return "", err
	}
	return selector.String(), nil
}

var scaleKind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// Scale serves a kind's /scale: the number of wanted Pods, in the same form for every kind.
type Scale[T kit.Object] struct {
	store *genericregistry.Store
	of    Scaled[T]
}

// NewScale returns the scale subresource over the main store of a kind.
func NewScale[T kit.Object](env kit.Env, of Scaled[T]) *Scale[T] {
	return &Scale[T]{store: env.Store, of: of}
}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (r *Scale[T]) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind { return scaleKind }

// New implements rest.Storage.
func (r *Scale[T]) New() runtime.Object { return &autoscalingv1.Scale{} }

// Destroy implements rest.Storage.
func (r *Scale[T]) Destroy() {}

// Get implements rest.Getter.
func (r *Scale[T]) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	obj, err := r.store.Get(ctx, name, options)
	if err != nil {
		return nil, err
	}
	return r.scale(obj)
}

// Update implements rest.Updater. It updates the object that the scale belongs to.
func (r *Scale[T]) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc, admit rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	admitScale := func(ctx context.Context, obj, old runtime.Object) error {
		now, err := r.scale(obj)
		if err != nil {
			return err
		}
		before, err := r.scale(old)
		if err != nil {
			return err
		}
		return admit(ctx, now, before)
	}
	obj, _, err := r.store.Update(ctx, name, &scaleChange[T]{r, name, info}, rest.ValidateAllObjectFunc, admitScale, false, options)
	if err != nil {
		return nil, false, err
	}
	scale, err := r.scale(obj)
	return scale, false, err
}

// scale returns the scale of an object of the kind.
func (r *Scale[T]) scale(o runtime.Object) (*autoscalingv1.Scale, error) {
	obj, ok := o.(T)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot scale a %T", o))
	}
	selector, err := r.of.Selector(obj)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name:              obj.GetName(),
			Namespace:         obj.GetNamespace(),
			UID:               obj.GetUID(),
			ResourceVersion:   obj.GetResourceVersion(),
			CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: int32(Replicas(*r.of.Wanted(obj)))},
		Status: autoscalingv1.ScaleStatus{Replicas: r.of.Current(obj), Selector: selector},
	}, nil
}

// ConvertToTable implements rest.TableConvertor.
func (r *Scale[T]) ConvertToTable(_ context.Context, obj runtime.Object, options runtime.Object) (*metav1.Table, error) {
	scale, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return nil, fmt.Errorf("cannot print a %T as a scale", obj)
	}
	table := &metav1.Table{
		ListMeta: metav1.ListMeta{ResourceVersion: scale.ResourceVersion},
		Rows: []metav1.TableRow{{
			Cells:  []any{scale.Name, int64(scale.Spec.Replicas), int64(scale.Status.Replicas), column.Since(scale.CreationTimestamp)},
			Object: runtime.RawExtension{Object: scale},
		}},
	}
	if o, ok := options.(*metav1.TableOptions); !ok || o == nil || !o.NoHeaders {
		name := column.Name()
		name.Format = ""
		table.ColumnDefinitions = []column.Definition{
			name,
			column.Integer("Desired", autoscalingv1.ScaleSpec{}.SwaggerDoc()["replicas"]),
			column.Integer("Available", autoscalingv1.ScaleStatus{}.SwaggerDoc()["replicas"]),
			column.Age(),
		}
	}
	return table, nil
}

// scaleChange applies a change of a scale to the object that it belongs to.
type scaleChange[T kit.Object] struct {
	r    *Scale[T]
	name string
	info rest.UpdatedObjectInfo
}

// Preconditions implements rest.UpdatedObjectInfo.
func (c *scaleChange[T]) Preconditions() *metav1.Preconditions { return c.info.Preconditions() }

// UpdatedObject implements rest.UpdatedObjectInfo.
func (c *scaleChange[T]) UpdatedObject(ctx context.Context, stored runtime.Object) (runtime.Object, error) {
	obj, ok := stored.DeepCopyObject().(T)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot scale a %T", stored))
	}
	resource := schema.GroupResource{Group: c.r.of.GroupVersion.Group, Resource: c.r.of.Resource + "/scale"}
	if obj.GetResourceVersion() == "" {
		return nil, apierrors.NewNotFound(resource, c.name)
	}
	old, err := c.r.scale(obj)
	if err != nil {
		return nil, err
	}
	// The managers of the object's replicas manage the scale's replicas.
	managers := managedfields.NewScaleHandler(obj.GetManagedFields(), c.r.of.GroupVersion, managedfields.ResourcePathMappings{
		c.r.of.GroupVersion.String(): fieldpath.MakePathOrDie("spec", "replicas"),
	})
	if old.ManagedFields, err = managers.ToSubresource(); err != nil {
		return nil, err
	}
	changed, err := c.info.UpdatedObject(ctx, old)
	if err != nil {
		return nil, err
	}
	scale, ok := changed.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("expected input object type to be Scale, but %T", changed))
	}
	if faults := checkScale(scale); len(faults) > 0 {
		return nil, apierrors.NewInvalid(scaleKind.GroupKind(), c.name, faults)
	}
	if scale.UID != "" && scale.UID != obj.GetUID() {
		return nil, apierrors.NewConflict(resource, c.name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", scale.UID, obj.GetUID()))
	}
	*c.r.of.Wanted(obj) = new(scale.Spec.Replicas)
	obj.SetResourceVersion(scale.ResourceVersion)
	entries, err := managers.ToParent(scale.ManagedFields)
	if err != nil {
		return nil, err
	}
	obj.SetManagedFields(entries)
	return obj, nil
}

func checkScale(s *autoscalingv1.Scale) field.ErrorList {
	faults := metav1validation.ValidateManagedFields(s.ManagedFields, field.NewPath("metadata", "managedFields"))
	return append(faults, apivalidation.ValidateNonnegativeField(int64(s.Spec.Replicas), field.NewPath("spec", "replicas"))...)
}
