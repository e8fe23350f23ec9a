package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"

	"podium.dev/podium/internal/apistore"
)

// runtimeClass gives Pods what their runtime class costs and where it can run.
type runtimeClass struct {
	*admission.Handler
	stores apistore.Stores
}

var (
	_ admission.MutationInterface   = &runtimeClass{}
	_ admission.ValidationInterface = &runtimeClass{}
)

func newRuntimeClass(stores apistore.Stores) *runtimeClass {
	return &runtimeClass{Handler: admission.NewHandler(admission.Create), stores: stores}
}

var errOverhead = errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")

// class returns the class of a Pod, or nil when it names none.
func (r *runtimeClass) class(ctx context.Context, a admission.Attributes, p *corev1.Pod) (*nodev1.RuntimeClass, error) {
	if p.Spec.RuntimeClassName == nil {
		return nil, nil
	}
	name := *p.Spec.RuntimeClassName
	class, err := find[*nodev1.RuntimeClass](ctx, r.stores, schema.GroupResource{Group: nodev1.GroupName, Resource: "runtimeclasses"}, "", name)
	if apierrors.IsNotFound(err) {
		return nil, admission.NewForbidden(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", name))
	}
	return class, err
}

// Admit implements admission.MutationInterface.
func (r *runtimeClass) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	p, err := pod(a)
	if p == nil {
		return err
	}
	class, err := r.class(ctx, a, p)
	if class == nil {
		return err
	}
	if class.Overhead != nil {
		if len(p.Spec.Overhead) > 0 && !equality.Semantic.DeepEqual(class.Overhead.PodFixed, p.Spec.Overhead) {
			return admission.NewForbidden(a, errOverhead)
		}
		p.Spec.Overhead = class.Overhead.PodFixed
	}
	if class.Scheduling == nil {
		return nil
	}
	for key, value := range class.Scheduling.NodeSelector {
		if p.Spec.NodeSelector == nil {
			p.Spec.NodeSelector = map[string]string{}
		}
		if given, ok := p.Spec.NodeSelector[key]; ok && given != value {
			return admission.NewForbidden(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, given))
		}
		p.Spec.NodeSelector[key] = value
	}
	p.Spec.Tolerations = mergeTolerations(p.Spec.Tolerations, class.Scheduling.Tolerations)
	return nil
}

// mergeTolerations returns both lists, without those that another one in them covers.
func mergeTolerations(first, second []corev1.Toleration) (merged []corev1.Toleration) {
	all := append(append([]corev1.Toleration(nil), first...), second...)
next:
	for i, t := range all {
		for _, m := range merged {
			if covers(m, t) {
				continue next
			}
		}
		for _, later := range all[i+1:] {
			if !equality.Semantic.DeepEqual(t, later) && covers(later, t) {
				continue next
			}
		}
		merged = append(merged, t)
	}
	return merged
}

// covers reports whether the first toleration tolerates all that the second does, and for as long.
func covers(a, b corev1.Toleration) bool {
	if equality.Semantic.DeepEqual(a, b) {
		return true
	}
	// An empty key with Exists is any key, and an empty effect any effect.
	if a.Key != b.Key && (a.Key != "" || a.Operator != corev1.TolerationOpExists) {
		return false
	}
	if a.Effect != b.Effect && a.Effect != "" {
		return false
	}
	if a.Effect == corev1.TaintEffectNoExecute && a.TolerationSeconds != nil {
		if b.TolerationSeconds == nil || *a.TolerationSeconds < *b.TolerationSeconds {
			return false
		}
	}
	switch a.Operator {
	case corev1.TolerationOpExists:
		return true
	case corev1.TolerationOpEqual, "":
		return b.Operator == corev1.TolerationOpEqual && a.Value == b.Value
	}
	return false
}

// Validate implements admission.ValidationInterface.
func (r *runtimeClass) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	p, err := pod(a)
	if p == nil {
		return err
	}
	class, err := r.class(ctx, a, p)
	if err != nil {
		return err
	}
	switch {
	case class != nil && class.Overhead != nil:
		if !equality.Semantic.DeepEqual(class.Overhead.PodFixed, p.Spec.Overhead) {
			return admission.NewForbidden(a, errOverhead)
		}
	case p.Spec.Overhead != nil:
		return admission.NewForbidden(a, errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
	}
	return nil
}
