package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/admission"
	resourcehelper "k8s.io/component-helpers/resource"

	"podium.dev/podium/internal/apistore"
)

const limitRangerAnnotation = "kubernetes.io/limit-ranger"

// limitRanger fills in resources from the LimitRanges of the namespace, and holds Pods and claims to them.
type limitRanger struct {
	*admission.Handler
	stores apistore.Stores
}

var (
	_ admission.MutationInterface   = &limitRanger{}
	_ admission.ValidationInterface = &limitRanger{}
)

func newLimitRanger(stores apistore.Stores) *limitRanger {
	return &limitRanger{Handler: admission.NewHandler(admission.Create, admission.Update), stores: stores}
}

// Admit implements admission.MutationInterface.
func (l *limitRanger) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	return l.each(ctx, a, func(r *corev1.LimitRange) error {
		if p, ok := a.GetObject().(*corev1.Pod); ok {
			fillResources(p, r)
		}
		return nil
	})
}

// Validate implements admission.ValidationInterface.
func (l *limitRanger) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	return l.each(ctx, a, func(r *corev1.LimitRange) error {
		switch o := a.GetObject().(type) {
		case *corev1.Pod:
			return checkPodLimits(o, r)
		case *corev1.PersistentVolumeClaim:
			return checkClaimLimits(o, r)
		}
		return nil
	})
}

// each calls f for each LimitRange that a request has to mind.
func (l *limitRanger) each(ctx context.Context, a admission.Attributes, f func(*corev1.LimitRange) error) error {
	if !limited(a) {
		return nil
	}
	if old := a.GetOldObject(); old != nil {
		if o, err := meta.Accessor(old); err != nil || o.GetDeletionTimestamp() != nil {
			return err
		}
	}
	ranges, err := apistore.ListCurrent[*corev1.LimitRange](ctx, l.stores, apistore.Core("limitranges"), a.GetNamespace())
	if err != nil {
		return admission.NewForbidden(a, fmt.Errorf("unable to %s %v at this time because there was an error enforcing limit ranges", a.GetOperation(), a.GetResource()))
	}
	for _, r := range ranges {
		if err := f(r); err != nil {
			return admission.NewForbidden(a, err)
		}
	}
	return nil
}

// limited reports whether a request is one that LimitRanges are about: a new Pod, a resize, or a claim.
func limited(a admission.Attributes) bool {
	create := a.GetOperation() == admission.Create
	switch a.GetResource().GroupResource() {
	case podsResource:
		return create && a.GetSubresource() == "" || !create && a.GetSubresource() == "resize"
	case apistore.Core("persistentvolumeclaims"):
		return a.GetSubresource() == ""
	}
	return false
}

// fillResources gives containers the default requests and limits that they do not set, and says so in an
// annotation.
func fillResources(p *corev1.Pod, r *corev1.LimitRange) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for _, item := range r.Spec.Limits {
		if item.Type == corev1.LimitTypeContainer {
			maps.Copy(requests, item.DefaultRequest)
			maps.Copy(limits, item.Default)
		}
	}
	var said []string
	fill := func(kind string, list []corev1.Container) {
		for i := range list {
			c := &list[i]
			if set := fillList(&c.Resources.Requests, requests); len(set) > 0 {
				said = append(said, fmt.Sprintf("%s request for %s %s", strings.Join(set, ", "), kind, c.Name))
			}
			if set := fillList(&c.Resources.Limits, limits); len(set) > 0 {
				said = append(said, fmt.Sprintf("%s limit for %s %s", strings.Join(set, ", "), kind, c.Name))
			}
		}
	}
	fill("container", p.Spec.Containers)
	fill("init container", p.Spec.InitContainers)
	if len(said) == 0 {
		return
	}
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Annotations[limitRangerAnnotation] = "LimitRanger plugin set: " + strings.Join(said, "; ")
}

func fillList(have *corev1.ResourceList, defaults corev1.ResourceList) (set []string) {
	if *have == nil {
		*have = corev1.ResourceList{}
	}
	for name, q := range defaults {
		if _, ok := (*have)[name]; !ok {
			(*have)[name] = q.DeepCopy()
			set = append(set, string(name))
		}
	}
	slices.Sort(set)
	return set
}

func checkPodLimits(p *corev1.Pod, r *corev1.LimitRange) error {
	var faults []error
	for _, item := range r.Spec.Limits {
		switch item.Type {
		case corev1.LimitTypeContainer:
			for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
				for i := range list {
					faults = append(faults, checkItem(item, list[i].Resources.Requests, list[i].Resources.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			options := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
			faults = append(faults, checkItem(item, resourcehelper.PodRequests(p, options), resourcehelper.PodLimits(p, options))...)
		}
	}
	return utilerrors.NewAggregate(faults)
}

// checkClaimLimits looks at what a claim asks for only: claims have no limits.
func checkClaimLimits(c *corev1.PersistentVolumeClaim, r *corev1.LimitRange) error {
	var faults []error
	for _, item := range r.Spec.Limits {
		if item.Type != corev1.LimitTypePersistentVolumeClaim {
			continue
		}
		b := bounds{string(item.Type), c.Spec.Resources.Requests, nil}
		faults = append(faults, inOrder(item.Min, b.min)...)
		faults = append(faults, inOrder(item.Max, b.maxRequest)...)
	}
	return utilerrors.NewAggregate(faults)
}

func checkItem(item corev1.LimitRangeItem, requests, limits corev1.ResourceList) (faults []error) {
	b := bounds{string(item.Type), requests, limits}
	faults = append(faults, inOrder(item.Min, b.min)...)
	faults = append(faults, inOrder(item.Max, b.max)...)
	return append(faults, inOrder(item.MaxLimitRequestRatio, b.ratio)...)
}

// inOrder checks each resource of a list, in the order of their names.
func inOrder(list corev1.ResourceList, check func(name corev1.ResourceName, bound resource.Quantity) error) (faults []error) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if err := check(name, list[name]); err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}

// bounds checks the requests and limits of something.
type bounds struct {
	what             string // "Container", "Pod", "PersistentVolumeClaim"
	requests, limits corev1.ResourceList
}

func (b bounds) min(name corev1.ResourceName, bound resource.Quantity) error {
	request, ok := b.requests[name]
	if !ok {
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", name, b.what, bound.String())
	}
	if request.Cmp(bound) < 0 {
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", name, b.what, bound.String(), request.String())
	}
	if limit, ok := b.limits[name]; ok && limit.Cmp(bound) < 0 {
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", name, b.what, bound.String(), limit.String())
	}
	return nil
}

func (b bounds) max(name corev1.ResourceName, bound resource.Quantity) error {
	limit, ok := b.limits[name]
	if !ok {
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", name, b.what, bound.String())
	}
	if limit.Cmp(bound) > 0 {
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", name, b.what, bound.String(), limit.String())
	}
	if request, ok := b.requests[name]; ok && request.Cmp(bound) > 0 {
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, b.what, bound.String(), request.String())
	}
	return nil
}

func (b bounds) maxRequest(name corev1.ResourceName, bound resource.Quantity) error {
	request, ok := b.requests[name]
	if !ok {
		return fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", name, b.what, bound.String())
	}
	if request.Cmp(bound) > 0 {
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, b.what, bound.String(), request.String())
	}
	return nil
}

func (b bounds) ratio(name corev1.ResourceName, bound resource.Quantity) error {
	request, limit := b.requests[name], b.limits[name]
	if request.IsZero() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, b.what, bound.String())
	}
	if limit.IsZero() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, b.what, bound.String())
	}
	if got := limit.AsApproximateFloat64() / request.AsApproximateFloat64(); got > bound.AsApproximateFloat64() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, b.what, bound.String(), got)
	}
	return nil
}
