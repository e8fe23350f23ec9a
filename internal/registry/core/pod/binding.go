package pod

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/registry/kit/fielderrors"
	"podium.dev/podium/internal/registry/podspec"
)

// bindingREST puts a Pod on a node: a Binding is created, and what is stored is the Pod.
type bindingREST struct {
	store *genericregistry.Store
	clock clock.PassiveClock
}

var (
	_ rest.NamedCreater                   = &bindingREST{}
	_ rest.SubresourceObjectMetaPreserver = &bindingREST{}
)

// NamespaceScoped implements rest.Scoper.
func (r *bindingREST) NamespaceScoped() bool { return true }

// New implements rest.Storage.
func (r *bindingREST) New() runtime.Object { return &corev1.Binding{} }

// Destroy implements rest.Storage; the main store owns what there is to destroy.
func (r *bindingREST) Destroy() {}

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate implements rest.SubresourceObjectMetaPreserver: the
// UID and the resource version in a Binding are those that the Pod must have.
func (r *bindingREST) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool { return true }

// Create implements rest.NamedCreater.
func (r *bindingREST) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	binding, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, errors.NewBadRequest(fmt.Sprintf("not a Binding object: %#v", obj))
	}
	if name != binding.Name {
		return nil, errors.NewBadRequest("name in URL does not match name in Binding object")
	}
	if faults := checkBinding(binding); len(faults) > 0 {
		return nil, faults.ToAggregate()
	}
	if validate != nil {
		if err := validate(ctx, binding.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := r.assign(ctx, binding, dryrun.IsDryRun(options.DryRun)); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess}, nil
}

// bindingsREST serves bindings, the older way to put a Pod on a node: the Pod's name is in the object only.
type bindingsREST struct{ *bindingREST }

var (
	_ rest.Creater              = bindingsREST{}
	_ rest.SingularNameProvider = bindingsREST{}
)

// Create implements rest.Creater.
func (r bindingsREST) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, errors.NewBadRequest(fmt.Sprintf("not a Binding object: %T", obj))
	}
	return r.bindingREST.Create(ctx, m.GetName(), obj, validate, options)
}

// GetSingularName implements rest.SingularNameProvider.
func (r bindingsREST) GetSingularName() string { return "binding" }

// checkBinding returns every fault of a Binding. Its target is a node, said or unsaid.
func checkBinding(b *corev1.Binding) field.ErrorList {
	var l fielderrors.List
	path := field.NewPath("target")
	known := b.Target.Kind == "" || b.Target.Kind == "Node"
	if !known {
		l.Add(field.NotSupported(path.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		l.Required(path.Child("name"), "")
	} else if known {
		l.InvalidEach(path.Child("name"), b.Target.Name, apivalidation.NameIsDNSSubdomain(b.Target.Name, false))
	}
	return l.Errors()
}

// assign writes the node into the Pod. Every failure that is not the store's is a conflict.
func (r *bindingREST) assign(ctx context.Context, b *corev1.Binding, dryRun bool) error {
	key, err := r.store.KeyFunc(ctx, b.Name)
	if err != nil {
		return err
	}
	var preconditions *storage.Preconditions
	if b.UID != "" || b.ResourceVersion != "" {
		preconditions = &storage.Preconditions{}
		if b.UID != "" {
			preconditions.UID = &b.UID
		}
		if b.ResourceVersion != "" {
			preconditions.ResourceVersion = &b.ResourceVersion
		}
	}
	err = r.store.Storage.GuaranteedUpdate(ctx, key, &corev1.Pod{}, false, preconditions, storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return nil, fmt.Errorf("unexpected object: %#v", obj)
		}
		return pod, bind(pod, b, metav1.NewTime(r.clock.Now()))
	}), dryRun, nil)
	if err == nil {
		return nil
	}
	pods := corev1.Resource("pods")
	err = storeerr.InterpretUpdateError(storeerr.InterpretGetError(err, pods, b.Name), pods, b.Name)
	if _, ok := err.(*errors.StatusError); !ok {
		err = errors.NewConflict(corev1.Resource("pods/binding"), b.Name, err)
	}
	return err
}

// bind gives a Pod its node and takes over the binding's labels and annotations, or says why it cannot.
func bind(pod *corev1.Pod, b *corev1.Binding, now metav1.Time) error {
	switch {
	case pod.DeletionTimestamp != nil:
		return fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return fmt.Errorf("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) != 0:
		return fmt.Errorf("pod %v has non-empty .spec.schedulingGates", pod.Name)
	}
	pod.Spec.NodeName = b.Target.Name
	pod.Status.NominatedNodeName = ""
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	maps.Copy(pod.Annotations, b.Annotations)
	podspec.DropInitAnnotations(pod.Annotations)
	if len(b.Labels) > 0 {
		if pod.Labels == nil {
			pod.Labels = map[string]string{}
		}
		maps.Copy(pod.Labels, b.Labels)
	}
	setCondition(&pod.Status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, now)
	return nil
}
