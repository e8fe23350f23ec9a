package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	quotalists "k8s.io/apiserver/pkg/quota/v1"
	"k8s.io/apiserver/pkg/storage"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/apistore"
	"podium.dev/podium/internal/quota"
)

// resourceQuota holds what is made in a namespace to its ResourceQuotas. It charges a quota at once, in its
// status; a controller counts again what is really there.
type resourceQuota struct {
	*admission.Handler
	stores apistore.Stores
	clock  clock.PassiveClock
}

var _ admission.ValidationInterface = &resourceQuota{}

func newResourceQuota(stores apistore.Stores) *resourceQuota {
	return &resourceQuota{Handler: admission.NewHandler(admission.Create, admission.Update), stores: stores, clock: clock.RealClock{}}
}

// Validate implements admission.ValidationInterface.
func (q *resourceQuota) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	kind := a.GetResource().GroupResource()
	if a.GetNamespace() == "" || kind == apistore.Core("namespaces") || !q.counts(a) {
		return nil
	}
	quotas, err := apistore.List[*corev1.ResourceQuota](ctx, q.stores, apistore.Core("resourcequotas"), a.GetNamespace())
	if err != nil || len(quotas) == 0 {
		return err
	}
	c := charge{a: a, usage: q.usage(kind, a.GetObject())}
	if a.GetOperation() == admission.Update {
		c.before = q.usage(kind, a.GetOldObject())
	}
	// All must agree before one is charged.
	for _, quota := range quotas {
		if _, err := c.to(quota); err != nil {
			return err
		}
	}
	if a.IsDryRun() {
		return nil
	}
	for _, quota := range quotas {
		if err := q.charge(ctx, c, quota); err != nil {
			return err
		}
	}
	return nil
}

// counts reports whether a request may change what is used: most kinds only when an object is made.
func (q *resourceQuota) counts(a admission.Attributes) bool {
	create := a.GetOperation() == admission.Create
	switch a.GetResource().GroupResource() {
	case apistore.Core("events"), schema.GroupResource{Group: eventsv1.GroupName, Resource: "events"}, apistore.Core("bindings"):
		return false
	case podsResource:
		if create || a.GetSubresource() != "" {
			return create && a.GetSubresource() == "" || !create && a.GetSubresource() == "resize"
		}
		return scopeChanged(a)
	case apistore.Core("services"), apistore.Core("persistentvolumeclaims"):
		return a.GetSubresource() == ""
	}
	return create && a.GetSubresource() == ""
}

// scopeChanged reports whether an update makes a Pod one that ends by itself, or no longer.
func scopeChanged(a admission.Attributes) bool {
	p, ok := a.GetObject().(*corev1.Pod)
	old, was := a.GetOldObject().(*corev1.Pod)
	return ok && was && (p.Spec.ActiveDeadlineSeconds == nil) != (old.Spec.ActiveDeadlineSeconds == nil)
}

// usage returns what an object uses, under all names by which a quota may bound it.
func (q *resourceQuota) usage(kind schema.GroupResource, o runtime.Object) corev1.ResourceList {
	switch o := o.(type) {
	case *corev1.Pod:
		return quota.PodUsage(o, q.clock.Now())
	case *corev1.Service:
		return quota.ServiceUsage(o)
	case *corev1.PersistentVolumeClaim:
		return quota.ClaimUsage(o)
	}
	one := *resource.NewQuantity(1, resource.DecimalSI)
	used := corev1.ResourceList{corev1.ResourceName("count/" + kind.String()): one}
	switch kind {
	case apistore.Core("secrets"), apistore.Core("configmaps"), apistore.Core("replicationcontrollers"), apistore.Core("resourcequotas"):
		used[corev1.ResourceName(kind.Resource)] = one
	}
	return used
}

// charge writes to a quota what a request uses of it. The quota is read again, so that of two requests for the
// last place one is refused.
func (q *resourceQuota) charge(ctx context.Context, c charge, quota *corev1.ResourceQuota) error {
	if used, err := c.to(quota); err != nil || used == nil {
		return err
	}
	store := q.stores(apistore.Core("resourcequotas"))
	ctx = apistore.Context(ctx, quota.Namespace)
	key, err := store.KeyFunc(ctx, quota.Name)
	if err != nil {
		return err
	}
	err = store.Storage.GuaranteedUpdate(ctx, key, &corev1.ResourceQuota{}, false, nil, storage.SimpleUpdate(func(o runtime.Object) (runtime.Object, error) {
		now := o.(*corev1.ResourceQuota)
		used, err := c.to(now)
		if used != nil {
			now.Status.Used = used
		}
		return now, err
	}), false, nil)
	if storage.IsNotFound(err) { // it was deleted in between
		return nil
	}
	return err
}

// charge is what a request uses, and with an update what it used before.
type charge struct {
	a             admission.Attributes
	usage, before corev1.ResourceList
}

// to returns what a quota's status.used becomes, nil when it stays as it is, or with why the quota
// refuses the request.
func (c charge) to(quota *corev1.ResourceQuota) (corev1.ResourceList, error) {
	if !selects(quota, c.a.GetObject()) {
		return nil, nil
	}
	bound := quotalists.Mask(c.usage, quotalists.ResourceNames(quota.Status.Hard))
	if pod, ok := c.a.GetObject().(*corev1.Pod); ok {
		if err := mustSpecify(pod, quota.Status.Hard); err != nil {
			return nil, admission.NewForbidden(c.a, fmt.Errorf("failed quota: %s: %w", quota.Name, err))
		}
	}
	for name := range bound {
		if _, known := quota.Status.Used[name]; !known {
			return nil, admission.NewForbidden(c.a, fmt.Errorf("status unknown for quota: %s, resources: %s", quota.Name, listed(bound)))
		}
	}
	if c.before != nil && selects(quota, c.a.GetOldObject()) {
		bound = quotalists.SubtractWithNonNegativeResult(bound, quotalists.Mask(c.before, quotalists.ResourceNames(bound)))
	}
	bound = quotalists.RemoveZeros(bound)
	if len(bound) == 0 {
		return nil, nil
	}
	used := quotalists.Add(quota.Status.Used, bound)
	if ok, over := quotalists.LessThanOrEqual(quotalists.Mask(used, quotalists.ResourceNames(bound)), quota.Status.Hard); !ok {
		return nil, admission.NewForbidden(c.a, fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", quota.Name,
			amounts(quotalists.Mask(bound, over)), amounts(quotalists.Mask(quota.Status.Used, over)), amounts(quotalists.Mask(quota.Status.Hard, over))))
	}
	return used, nil
}

// selects reports whether a quota applies to an object. Scopes select Pods only.
func selects(q *corev1.ResourceQuota, o runtime.Object) bool {
	if pod, ok := o.(*corev1.Pod); ok {
		return quota.Selects(q, pod)
	}
	return len(q.Spec.Scopes) == 0 && q.Spec.ScopeSelector == nil
}

// mustSpecify wants each container to say what it takes of CPU and memory when a quota bounds that.
func mustSpecify(pod *corev1.Pod, hard corev1.ResourceList) error {
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		return nil
	}
	missing := map[corev1.ResourceName][]string{}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			for _, name := range unspecified(&list[i], hard) {
				missing[name] = append(missing[name], list[i].Name)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		slices.Sort(missing[name])
		words = append(words, fmt.Sprintf("%s for: %s", name, strings.Join(missing[name], ",")))
	}
	return fmt.Errorf("must specify %s", strings.Join(words, "; "))
}

// unspecified returns those of the names of CPU and memory that a quota bounds and a container leaves
// out.
func unspecified(c *corev1.Container, hard corev1.ResourceList) (missing []corev1.ResourceName) {
	for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		for _, n := range []struct {
			name corev1.ResourceName
			in   corev1.ResourceList
		}{{r, c.Resources.Requests}, {"requests." + r, c.Resources.Requests}, {"limits." + r, c.Resources.Limits}} {
			if _, bounded := hard[n.name]; !bounded {
				continue
			}
			if _, said := n.in[r]; !said {
				missing = append(missing, n.name)
			}
		}
	}
	return missing
}

func listed(list corev1.ResourceList) string {
	var all []string
	for name := range list {
		all = append(all, string(name))
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

func amounts(list corev1.ResourceList) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		q := list[name]
		all = append(all, string(name)+"="+q.String())
	}
	return strings.Join(all, ",")
}
