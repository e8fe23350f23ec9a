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
	// containerResources are what a container may ask for under a plain name, huge pages aside.
	containerResources = sets.New(corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage)

	// countedResources are numbers of objects.
	countedResources = sets.New(
		corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
	)

	// quotaResources are what a quota may hold under a plain name, huge pages aside.
	quotaResources = containerResources.Union(countedResources).Insert(
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsStorage,
		corev1.ResourceRequestsEphemeralStorage, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
		corev1.ResourceLimitsEphemeralStorage,
	)
)

// IsHugePages says whether a resource is huge pages of some size.
func IsHugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

func isQuotaHugePages(name corev1.ResourceName) bool {
	return IsHugePages(name) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

// IsNativeResource says whether a resource is Kubernetes' own: without a domain, or of kubernetes.io.
func IsNativeResource(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// IsExtendedResource says whether a resource is somebody else's and can be put under a quota.
func IsExtendedResource(name corev1.ResourceName) bool {
	if IsNativeResource(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(utilvalidation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// IsOvercommitAllowed says whether the requests for a resource may stay below its limits.
func IsOvercommitAllowed(name corev1.ResourceName) bool {
	return IsNativeResource(name) && !IsHugePages(name)
}

// IsQuotaResource says whether a quota knows the resource by a plain name.
func IsQuotaResource(name corev1.ResourceName) bool {
	return quotaResources.Has(name) || isQuotaHugePages(name)
}

// ResourceName wants a name that the system knows, or one with a domain.
func ResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	return resourceName(name, path, "must be a standard resource type or fully qualified", func() bool {
		return quotaResources.Has(name) || name == corev1.ResourceStorage || isQuotaHugePages(name)
	})
}

// ContainerResourceName wants a resource that a container can ask for.
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

// QuotaResourceName wants a resource that a quota can hold.
func QuotaResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	faults := ResourceName(name, path)
	if !strings.Contains(string(name), "/") && !IsQuotaResource(name) {
		return append(faults, field.Invalid(path, name, "must be a standard resource for quota"))
	}
	return faults
}

// resourceName wants a qualified name, and one without a domain to be known.
func resourceName(name corev1.ResourceName, path *field.Path, unknown string, known func() bool) (faults field.ErrorList) {
	for _, fault := range utilvalidation.IsQualifiedName(string(name)) {
		faults = append(faults, field.Invalid(path, name, fault))
	}
	if len(faults) == 0 && !strings.Contains(string(name), "/") && !known() {
		faults = append(faults, field.Invalid(path, name, unknown))
	}
	return faults
}

// ResourceQuantity wants a quantity that is not negative, and a whole number for what is counted.
func ResourceQuantity(name corev1.ResourceName, value resource.Quantity, path *field.Path) field.ErrorList {
	faults := NonNegativeQuantity(value, path)
	if (countedResources.Has(name) || IsExtendedResource(name)) && value.MilliValue()%1000 != 0 {
		faults = append(faults, field.Invalid(path, value, "must be an integer"))
	}
	return faults
}

// NonNegativeQuantity wants a quantity of zero or more.
func NonNegativeQuantity(value resource.Quantity, path *field.Path) field.ErrorList {
	if value.Sign() < 0 {
		return field.ErrorList{field.Invalid(path, value.String(), apivalidation.IsNegativeErrorMsg)}
	}
	return nil
}

// NonNegative wants a number of zero or more.
func NonNegative[N ~int32 | ~int64](value N, path *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(int64(value), path)
}

// RoundUp rounds every quantity of a list up to thousandths, the finest that is stored.
func RoundUp(list corev1.ResourceList) {
	for name, value := range list {
		value.RoundUp(resource.Milli)
		list[name] = value
	}
}

// HugePages wants a quantity of huge pages to be a whole number of pages of the size in their name.
func HugePages(name corev1.ResourceName, value resource.Quantity, path *field.Path) field.ErrorList {
	size, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err == nil && size.Sign() > 0 && size.MilliValue()%1000 == 0 && value.Value()%size.Value() == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value.String(), value.String()+" is not positive integer multiple of "+string(name))}
}

// BasicQuantity wants a quantity that is one: not negative, whatever it is of.
func BasicQuantity(value resource.Quantity, path *field.Path) field.ErrorList {
	if value.Value() < 0 {
		return field.ErrorList{field.Invalid(path, value.Value(), "must be a valid resource quantity")}
	}
	return nil
}
