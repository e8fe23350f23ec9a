package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	resourcehelper "k8s.io/component-helpers/resource"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// Resources of a Pod as a whole: spec.resources and spec.resourceClaims.

// CompletePodResources fills in what spec.resources leaves open, from what the containers ask for. It runs
// when a Pod is stored, not when it is decoded, so that it sees every container that was added on the way.
// Each step builds on the one before.
func CompletePodResources(pod *corev1.Pod) {
	r := pod.Spec.Resources
	if r == nil || len(r.Requests) == 0 && len(r.Limits) == 0 {
		return
	}
	containers := &corev1.Pod{Spec: corev1.PodSpec{Containers: pod.Spec.Containers, InitContainers: pod.Spec.InitContainers}}
	limits := resourcehelper.AggregateContainerLimits(containers, resourcehelper.PodResourcesOptions{})
	requests := resourcehelper.AggregateContainerRequests(containers, resourcehelper.PodResourcesOptions{})

	// 1. Huge pages are limited to what the containers are allowed together.
	for name, limit := range limits {
		if _, asked := r.Requests[name]; IsHugePages(name) && !asked {
			setQuantity(&r.Limits, name, limit)
		}
	}
	// 2. The Pod asks for what its containers ask for together, or for as much as it is allowed.
	for name, request := range requests {
		if resourcehelper.IsSupportedPodLevelResource(name) && CanOvercommit(name) {
			setQuantity(&r.Requests, name, request)
		}
	}
	for name, limit := range r.Limits {
		if resourcehelper.IsSupportedPodLevelResource(name) {
			setQuantity(&r.Requests, name, limit)
		}
	}
	// 3. Where all containers are limited the Pod is, to what they are allowed together and no less than it asks for.
	for name, request := range r.Requests {
		limit, found := limits[name]
		if !found || !resourcehelper.IsSupportedPodLevelResource(name) || !limitedEverywhere(&pod.Spec, name) {
			continue
		}
		if request.Cmp(limit) > 0 {
			limit = request
		}
		setQuantity(&r.Limits, name, limit)
	}
}

// setQuantity sets an amount where there is none.
func setQuantity(list *corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
	if _, set := (*list)[name]; set {
		return
	}
	if *list == nil {
		*list = corev1.ResourceList{}
	}
	(*list)[name] = q.DeepCopy()
}

func limitedEverywhere(s *corev1.PodSpec, name corev1.ResourceName) bool {
	for c := range Containers(s) {
		if _, limited := c.Resources.Limits[name]; !limited {
			return false
		}
	}
	return true
}

func (c *checker) podResources(at *field.Path) {
	r := c.spec.Resources
	switch {
	case r == nil:
		return
	case c.spec.OS != nil && c.spec.OS.Name == corev1.Windows:
		c.Forbidden(at, "may not be set for a windows pod")
		return
	case r.Claims != nil:
		c.Forbidden(at.Child("claims"), "claims may not be set for Resources at pod-level")
	}
	c.resources(r, podResource, c.claims, at)
	c.roomForContainers(r, at)
}

// roomForContainers wants the Pod's own resources to have room for those of its containers.
func (c *checker) roomForContainers(r *corev1.ResourceRequirements, at *field.Path) {
	pod := &corev1.Pod{Spec: *c.spec}
	requests := resourcehelper.AggregateContainerRequests(pod, resourcehelper.PodResourcesOptions{})
	for _, name := range fielderrors.Keys(requests) {
		sum := requests[name]
		if own, set := r.Requests[name]; set && sum.Cmp(own) > 0 {
			c.Invalid(at.Child("requests").Key(string(name)), own.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", sum.String()))
		}
	}
	limits := resourcehelper.AggregateContainerLimits(pod, resourcehelper.PodResourcesOptions{})
	for _, name := range fielderrors.Keys(limits) {
		sum := limits[name]
		if own, set := r.Limits[name]; set && IsHugePages(name) && sum.Cmp(own) > 0 {
			c.Invalid(at.Child("limits").Key(string(name)), own.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container limits of %s", sum.String()))
		}
	}
	for i := range c.spec.Containers {
		list := c.spec.Containers[i].Resources.Limits
		for _, name := range fielderrors.Keys(list) {
			limit := list[name]
			if own, set := r.Limits[name]; set && limit.Cmp(own) > 0 {
				c.Invalid(at.Child("containers").Index(i).Key(string(name)).Child("limits"), limit.String(),
					fmt.Sprintf("must be less than or equal to pod limits of %s", own.String()))
			}
		}
	}
}

// resourceClaims judges the devices that a Pod claims, and keeps their names in c.claims.
func (c *checker) resourceClaims(at *field.Path) {
	c.claims = sets.New[string]()
	for i := range c.spec.ResourceClaims {
		if name := c.spec.ResourceClaims[i].Name; name != "" {
			c.claims.Insert(name)
		}
	}
	seen := sets.New[string]()
	for i := range c.spec.ResourceClaims {
		c.resourceClaim(&c.spec.ResourceClaims[i], seen, at.Index(i))
	}
}

func (c *checker) resourceClaim(claim *corev1.PodResourceClaim, seen sets.Set[string], at *field.Path) {
	if c.meta != nil {
		if _, mirror := c.meta.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
			c.Forbidden(field.NewPath(""), "static pods do not support resource claims")
			return
		}
	}
	switch {
	case claim.Name == "":
		c.Required(at.Child("name"), "")
	case seen.Has(claim.Name):
		c.Duplicate(at.Child("name"), claim.Name)
	default:
		c.dnsLabel(claim.Name, at.Child("name"))
		seen.Insert(claim.Name)
	}
	name, template := claim.ResourceClaimName, claim.ResourceClaimTemplateName
	switch {
	case name != nil && template != nil:
		c.Invalid(at, fielderrors.GoView(claim), "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
	case name == nil && template == nil:
		c.Invalid(at, fielderrors.GoView(claim), "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
	}
	if name != nil {
		c.InvalidEach(at.Child("resourceClaimName"), *name, apivalidation.NameIsDNSSubdomain(*name, false))
	}
	if template != nil {
		c.InvalidEach(at.Child("resourceClaimTemplateName"), *template, apivalidation.NameIsDNSSubdomain(*template, false))
	}
}
