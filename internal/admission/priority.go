package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/apistore"
)

var priorityClasses = schema.GroupResource{Group: schedulingv1.GroupName, Resource: "priorityclasses"}

// priority gives each Pod the number of its priority class, and lets there be one default class only.
type priority struct {
	*admission.Handler
	stores apistore.Stores
}

var (
	_ admission.MutationInterface   = &priority{}
	_ admission.ValidationInterface = &priority{}
)

func newPriority(stores apistore.Stores) *priority {
	return &priority{Handler: admission.NewHandler(admission.Create, admission.Update), stores: stores}
}

// Admit implements admission.MutationInterface.
func (s *priority) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	p, err := pod(a)
	if p == nil {
		return err
	}
	if a.GetOperation() == admission.Update {
		keepPriority(p, a.GetOldObject().(*corev1.Pod))
		return nil
	}
	class, err := s.class(ctx, a, p.Spec.PriorityClassName)
	if err != nil {
		return err
	}
	p.Spec.PriorityClassName = class.Name
	if given := p.Spec.Priority; given != nil && *given != class.Value {
		return admission.NewForbidden(a, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *given, class.Value))
	}
	p.Spec.Priority = ptr.To(class.Value)
	if class.PreemptionPolicy == nil {
		return nil
	}
	if given := p.Spec.PreemptionPolicy; given != nil && *given != *class.PreemptionPolicy {
		return admission.NewForbidden(a, fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *given, *class.PreemptionPolicy))
	}
	p.Spec.PreemptionPolicy = ptr.To(*class.PreemptionPolicy)
	return nil
}

// keepPriority lets a PUT leave out what was filled in here.
func keepPriority(p, old *corev1.Pod) {
	if p.Spec.Priority == nil {
		p.Spec.Priority = old.Spec.Priority
	}
	if p.Spec.PreemptionPolicy == nil {
		p.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
	}
}

// class returns the class of a name, for no name the default class, or one that stands for
// none at all.
func (s *priority) class(ctx context.Context, a admission.Attributes, name string) (*schedulingv1.PriorityClass, error) {
	if name == "" {
		class, err := s.defaultClass(ctx)
		if err != nil {
			return nil, fmt.Errorf("error occurred while retrieving default priority class: %w", err)
		}
		if class == nil {
			class = &schedulingv1.PriorityClass{PreemptionPolicy: ptr.To(corev1.PreemptLowerPriority)}
		}
		return class, nil
	}
	class, err := find[*schedulingv1.PriorityClass](ctx, s.stores, priorityClasses, "", name)
	if apierrors.IsNotFound(err) {
		return nil, admission.NewForbidden(a, fmt.Errorf("no PriorityClass with name %v was found", name))
	}
	if err != nil {
		return nil, fmt.Errorf("failed to resolve PriorityClass with name %s: %w", name, err)
	}
	return class, nil
}

// defaultClass returns the default class, the lowest when a race has let in several, or nil.
func (s *priority) defaultClass(ctx context.Context) (class *schedulingv1.PriorityClass, err error) {
	all, err := apistore.List[*schedulingv1.PriorityClass](ctx, s.stores, priorityClasses, "")
	for _, c := range all {
		if c.GlobalDefault && (class == nil || class.Value > c.Value) {
			class = c
		}
	}
	return class, err
}

// Validate implements admission.ValidationInterface.
func (s *priority) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	class, ok := a.GetObject().(*schedulingv1.PriorityClass)
	if !ok || a.GetResource().GroupResource() != priorityClasses || !class.GlobalDefault {
		return nil
	}
	other, err := s.defaultClass(ctx)
	if err != nil {
		return fmt.Errorf("failed to get default priority class: %w", err)
	}
	if other != nil && (a.GetOperation() == admission.Create || other.Name != class.Name) {
		return admission.NewForbidden(a, fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", other.Name))
	}
	return nil
}
