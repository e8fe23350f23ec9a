package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	resourcehelper "k8s.io/component-helpers/resource"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// resourceRule judges the name of a resource where it is asked for.
type resourceRule func(l *fielderrors.List, name corev1.ResourceName, at *field.Path)

// containerResource is the rule for what a container may ask for: processor, memory, local storage, huge
// pages and what extends a node.
func containerResource(l *fielderrors.List, name corev1.ResourceName, at *field.Path) {
	resourceName(l, name, at)
	switch {
	case !strings.Contains(string(name), "/"):
		if !isContainerResource(name) {
			l.Invalid(at, name, "must be a standard resource for containers")
		}
	case !isNative(name) && !isExtended(name):
		l.Invalid(at, name, "doesn't follow extended resource name standard")
	}
}

// podResource is the rule for what a Pod as a whole may ask for.
func podResource(l *fielderrors.List, name corev1.ResourceName, at *field.Path) {
	if !resourceName(l, name, at) {
		return
	}
	if !resourcehelper.IsSupportedPodLevelResource(name) {
		l.Add(field.NotSupported(at, name, sets.List(resourcehelper.SupportedPodLevelResources())))
	}
}

// resourceName is the rule for names of resources anywhere. It reports whether the name holds.
func resourceName(l *fielderrors.List, name corev1.ResourceName, at *field.Path) bool {
	if msgs := validation.IsQualifiedName(string(name)); len(msgs) > 0 {
		l.InvalidEach(at, name, msgs)
		return false
	}
	if !strings.Contains(string(name), "/") && !isStandard(name) {
		l.Invalid(at, name, "must be a standard resource type or fully qualified")
		return false
	}
	return true
}

// resources judges requests and limits, and the claims that are used.
func (c *checker) resources(r *corev1.ResourceRequirements, rule resourceRule, claims sets.Set[string], at *field.Path) {
	limits, requests := at.Child("limits"), at.Child("requests")
	for _, name := range fielderrors.Keys(r.Limits) {
		c.quantity(name, r.Limits[name], rule, limits.Key(string(name)))
	}
	for _, name := range fielderrors.Keys(r.Requests) {
		request, here := r.Requests[name], requests.Key(string(name))
		rule(&c.List, name, here)
		c.amount(name, request, here)
		c.withinLimit(name, request, r.Limits, requests, limits)
		c.wholePages(name, request, here)
	}
	if usesHugePages(r) && !usesCPUOrMemory(r) {
		c.Forbidden(at, "HugePages require cpu or memory")
	}
	c.claimRefs(r.Claims, claims, at.Child("claims"))
}

func (c *checker) quantity(name corev1.ResourceName, q resource.Quantity, rule resourceRule, at *field.Path) {
	rule(&c.List, name, at)
	c.amount(name, q, at)
	c.wholePages(name, q, at)
}

// amount wants a quantity not to be negative, and whole where only whole ones can be had.
func (c *checker) amount(name corev1.ResourceName, q resource.Quantity, at *field.Path) {
	if q.Sign() < 0 {
		c.Invalid(at, q.String(), "must be greater than or equal to 0")
	}
	if isWhole(name) && q.MilliValue()%1000 != 0 {
		c.Invalid(at, q, "must be an integer")
	}
}

// withinLimit wants a request to fit the limit. What cannot be promised twice must have both, and equal.
func (c *checker) withinLimit(name corev1.ResourceName, request resource.Quantity, all corev1.ResourceList, requests, limits *field.Path) {
	limit, limited := all[name]
	switch {
	case !limited && !CanOvercommit(name):
		c.Required(limits, "Limit must be set for non overcommitable resources")
	case !limited:
	case request.Cmp(limit) != 0 && !CanOvercommit(name):
		c.Invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String()))
	case request.Cmp(limit) > 0:
		c.Invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))
	}
}

func (c *checker) wholePages(name corev1.ResourceName, q resource.Quantity, at *field.Path) {
	if IsHugePages(name) && !c.lenient.hugePages && !wholePages(name, q) {
		c.Invalid(at, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name))
	}
}

// claimRefs wants every claim used to be one of the Pod's, and none to be used twice.
func (c *checker) claimRefs(refs []corev1.ResourceClaim, known sets.Set[string], at *field.Path) {
	seen := sets.New[string]()
	for i, ref := range refs {
		path := at.Index(i)
		if ref.Name == "" {
			c.Required(path, "")
			continue
		}
		c.claimRefTwice(ref, seen, path)
		if !known.Has(ref.Name) {
			missing := field.NotFound(path, ref.Name)
			missing.Detail = "must be one of the names in pod.spec.resourceClaims which is empty"
			if known.Len() > 0 {
				missing.Detail = "must be one of the names in pod.spec.resourceClaims: " + strings.Join(sets.List(known), ", ")
			}
			c.Add(missing)
		}
	}
}

// claimRefTwice notes a use of a claim, NAME or NAME/REQUEST, in seen. A use of all of a claim overlaps with
// any use of a part.
func (c *checker) claimRefTwice(ref corev1.ResourceClaim, seen sets.Set[string], at *field.Path) {
	if seen.Has(ref.Name) {
		c.Duplicate(at, ref.Name)
		return
	}
	key := ref.Name
	if ref.Request != "" {
		c.dnsLabel(ref.Request, at.Child("request"))
		key += "/" + ref.Request
	}
	if seen.Has(key) {
		c.Duplicate(at, key)
	} else if ref.Request == "" {
		for _, other := range sets.List(seen) {
			if claim, _, part := strings.Cut(other, "/"); part && claim == ref.Name {
				c.Duplicate(at, ref.Name)
			}
		}
	}
	seen.Insert(key)
}

// IsHugePages reports whether a resource is huge pages of some size.
func IsHugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// CanOvercommit reports whether more of a resource may be promised than there is.
func CanOvercommit(name corev1.ResourceName) bool { return isNative(name) && !IsHugePages(name) }

// wholePages reports whether an amount is a whole number of huge pages.
func wholePages(name corev1.ResourceName, q resource.Quantity) bool {
	page, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err != nil || page.Sign() <= 0 || page.MilliValue()%1000 != 0 {
		return false
	}
	return q.Value()%page.Value() == 0
}

func usesHugePages(r *corev1.ResourceRequirements) bool {
	return slices.ContainsFunc(append(fielderrors.Keys(r.Limits), fielderrors.Keys(r.Requests)...), IsHugePages)
}

func usesCPUOrMemory(r *corev1.ResourceRequirements) bool {
	return slices.ContainsFunc(append(fielderrors.Keys(r.Limits), fielderrors.Keys(r.Requests)...), func(name corev1.ResourceName) bool {
		return name == corev1.ResourceCPU || name == corev1.ResourceMemory
	})
}

// isNative reports whether a resource is Kubernetes' own: without a domain, or with kubernetes.io/ in it.
func isNative(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// isExtended reports whether a resource is one that somebody may add to a node. Its name must also do in a quota.
func isExtended(name corev1.ResourceName) bool {
	if isNative(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

func isContainerResource(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage || IsHugePages(name)
}

// countedResources are the objects that a quota counts; measuredResources is what else Kubernetes names.
var (
	countedResources = []corev1.ResourceName{corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices,
		corev1.ResourceReplicationControllers, corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers}
	measuredResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage, corev1.ResourceRequestsStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage}
)

// isStandard reports whether a name without a domain is one that Kubernetes knows, for quotas too.
func isStandard(name corev1.ResourceName) bool {
	return slices.Contains(measuredResources, name) || slices.Contains(countedResources, name) ||
		IsHugePages(name) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

// isWhole reports whether a resource comes in whole numbers only.
func isWhole(name corev1.ResourceName) bool {
	return slices.Contains(countedResources, name) || isExtended(name)
}
