package validate

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	// containerResources are the resources without a domain that a container may request, except huge pages.
	containerResources = sets.New(corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage)

	// countedResources are numbers of objects.
	countedResources = sets.New(
		corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
	)

	// quotaResources are the resources without a domain that a quota may bound, except huge pages.
	quotaResources = containerResources.Union(countedResources).Insert(
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsStorage,
		corev1.ResourceRequestsEphemeralStorage, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
		corev1.ResourceLimitsEphemeralStorage,
	)
)

// IsHugePages reports whether a resource is huge pages of some size.
func IsHugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

func isQuotaHugePages(name corev1.ResourceName) bool {
	return IsHugePages(name) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

// IsNativeResource reports whether a resource belongs to Kubernetes: it has no domain, or kubernetes.io.
func IsNativeResource(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// IsExtendedResource reports whether a resource is extended and can be bounded by a quota.
func IsExtendedResource(name corev1.ResourceName) bool {
	if IsNativeResource(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(utilvalidation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// IsOvercommitAllowed reports whether the requests for a resource may be lower than its limits.
func IsOvercommitAllowed(name corev1.ResourceName) bool {
	return IsNativeResource(name) && !IsHugePages(name)
}

// IsQuotaResource reports whether the resource is one without a domain that a quota may bound.
func IsQuotaResource(name corev1.ResourceName) bool {
	return quotaResources.Has(name) || isQuotaHugePages(name)
}

// ResourceName requires a name that the system knows, or one with a domain.
func ResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	return resourceName(name, path, "must be a standard resource type or fully qualified", func() bool {
		return quotaResources.Has(name) || name == corev1.ResourceStorage || isQuotaHugePages(name)
	})
}

// ContainerResourceName requires a resource that a container can request.
func ContainerResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	faults := ResourceName(name, path)
	switch plain := !strings.Contains(string(name), "/"); {
	case plain && !containerResources.Has(name) && !IsHugePages(name):
		return append(faults, field.Invalid(path, name, "must be a standard resource for containers"))
	case !IsNativeResource(name) && !IsExtendedResource(name):
		return append(faults, field.Invalid(path, name, "doesn't follow extended resource name standard"))
	}
	return faults
}

// QuotaResourceName requires a resource that a quota can bound.
func QuotaResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	faults := ResourceName(name, path)
	if !strings.Contains(string(name), "/") && !IsQuotaResource(name) {
		return append(faults, field.Invalid(path, name, "must be a standard resource for quota"))
	}
	return faults
}

// resourceName requires a qualified name, which must be known if it has no domain.
func resourceName(name corev1.ResourceName, path *field.Path, unknown string, known func() bool) (faults field.ErrorList) {
	for _, fault := range utilvalidation.IsQualifiedName(string(name)) {
		faults = append(faults, field.Invalid(path, name, fault))
	}
	if len(faults) == 0 && !strings.Contains(string(name), "/") && !known() {
		faults = append(faults, field.Invalid(path, name, unknown))
	}
	return faults
}

// ResourceQuantity requires a non-negative quantity, and an integer for what is counted.
func ResourceQuantity(name corev1.ResourceName, value resource.Quantity, path *field.Path) field.ErrorList {
	faults := NonNegativeQuantity(value, path)
	if (countedResources.Has(name) || IsExtendedResource(name)) && value.MilliValue()%1000 != 0 {
		faults = append(faults, field.Invalid(path, value, "must be an integer"))
	}
	return faults
}

// NonNegativeQuantity requires a non-negative quantity.
func NonNegativeQuantity(value resource.Quantity, path *field.Path) field.ErrorList {
	if value.Sign() < 0 {
		return field.ErrorList{field.Invalid(path, value.String(), apivalidation.IsNegativeErrorMsg)}
	}
	return nil
}

// NonNegative requires a non-negative number.
func NonNegative[N ~int32 | ~int64](value N, path *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(int64(value), path)
}

// RoundUp rounds every quantity in a list up to thousandths, the finest resolution that is stored.
func RoundUp(list corev1.ResourceList) {
	for name, value := range list {
		value.RoundUp(resource.Milli)
		list[name] = value
	}
}

// HugePages requires that a quantity of huge pages is a multiple of the page size in the name.
func HugePages(name corev1.ResourceName, value resource.Quantity, path *field.Path) field.ErrorList {
	size, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err == nil && size.Sign() > 0 && size.MilliValue()%1000 == 0 && value.Value()%size.Value() == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value.String(), value.String()+" is not positive integer multiple of "+string(name))}
}

// BasicQuantity requires a non-negative quantity of any resource.
func BasicQuantity(value resource.Quantity, path *field.Path) field.ErrorList {
	if value.Value() < 0 {
		return field.ErrorList{field.Invalid(path, value.Value(), "must be a valid resource quantity")}
	}
	return nil
}
