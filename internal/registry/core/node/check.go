package node

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"podium.dev/podium/internal/registry/kit/validate"
)

var (
	metadata = field.NewPath("metadata")
	spec     = field.NewPath("spec")
	status   = field.NewPath("status")
)

func check(_ context.Context, n *corev1.Node) field.ErrorList {
	faults := validate.Meta(&n.ObjectMeta, false, apivalidation.NameIsDNSSubdomain)
	faults = append(faults, checkAnnotations(n.Annotations)...)
	// Kubernetes reports taints below metadata.
	faults = append(faults, validate.Taints(n.Spec.Taints, metadata.Child("taints"))...)
	faults = append(faults, checkResources(n)...)
	if swap := n.Status.NodeInfo.Swap; swap != nil && swap.Capacity != nil && *swap.Capacity <= 0 {
		faults = append(faults, field.Invalid(metadata.Child("nodeSwapStatus", "capacity"), *swap.Capacity, "must be greater than zero"))
	}
	faults = append(faults, checkFeatures(n.Status.DeclaredFeatures, status.Child("declaredFeatures"))...)
	return append(faults, checkPodCIDRs(n.Spec.PodCIDRs, spec.Child("podCIDRs"))...)
}

func checkUpdate(_ context.Context, n, old *corev1.Node) field.ErrorList {
	faults := validate.MetaUpdate(&n.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, checkAnnotations(n.Annotations)...)
	faults = append(faults, checkResources(n)...)
	faults = append(faults, checkFeatures(n.Status.DeclaredFeatures, status.Child("declaredFeatures"))...)
	faults = append(faults, checkAddresses(n.Status.Addresses, status.Child("addresses"))...)
	faults = append(faults, checkPodCIDRChange(n.Spec.PodCIDRs, old.Spec.PodCIDRs, spec.Child("podCIDRs"))...)
	faults = append(faults, checkProviderIDChange(n.Spec.ProviderID, old.Spec.ProviderID, spec.Child("providerID"))...)
	faults = append(faults, validate.Taints(n.Spec.Taints, metadata.Child("taints"))...)
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		faults = append(faults, field.Forbidden(spec.Child("externalID"), "may not be updated"))
	}
	return faults
}

// taintsAnnotation and avoidPodsAnnotation held taints and preferences before there were fields for them.
const (
	taintsAnnotation    = "scheduler.alpha.kubernetes.io/taints"
	avoidPodsAnnotation = corev1.PreferAvoidPodsAnnotationKey
)

func checkAnnotations(annotations map[string]string) (faults field.ErrorList) {
	path := metadata.Child("annotations")
	if text := annotations[taintsAnnotation]; text != "" {
		var taints []corev1.Taint
		if err := json.Unmarshal([]byte(text), &taints); err != nil {
			faults = append(faults, field.Invalid(path, taintsAnnotation, err.Error()))
		} else {
			faults = append(faults, validate.Taints(taints, path.Child(taintsAnnotation))...)
		}
	}
	if text := annotations[avoidPodsAnnotation]; text != "" {
		var avoid corev1.AvoidPods
		if err := json.Unmarshal([]byte(text), &avoid); err != nil {
			faults = append(faults, field.Invalid(path.Child("AvoidPods"), avoidPodsAnnotation, err.Error()))
		}
		for i, entry := range avoid.PreferAvoidPods {
			faults = append(faults, checkAvoided(entry, path.Child(avoidPodsAnnotation).Index(i))...)
		}
	}
	return faults
}

func checkAvoided(entry corev1.PreferAvoidPodsEntry, path *field.Path) field.ErrorList {
	owner := entry.PodSignature.PodController
	switch {
	case owner == nil:
		return field.ErrorList{field.Required(path.Child("PodSignature"), "")}
	case owner.Controller == nil || !*owner.Controller:
		return field.ErrorList{field.Invalid(path.Child("PodSignature", "PodController", "Controller"), false, "must point to a controller")}
	}
	return nil
}

func checkResources(n *corev1.Node) (faults field.ErrorList) {
	for part, list := range map[string]corev1.ResourceList{"capacity": n.Status.Capacity, "allocatable": n.Status.Allocatable} {
		for name, value := range list {
			faults = append(faults, validate.ResourceQuantity(name, value, status.Child(part, string(name)))...)
		}
	}
	return faults
}

var featureName = regexp.MustCompile(`^[A-Z][a-zA-Z0-9]*(\/[a-zA-Z][a-zA-Z0-9]*)*$`)

// checkFeatures requires sorted, unique names of features.
func checkFeatures(names []string, path *field.Path) (faults field.ErrorList) {
	for i, name := range names {
		switch {
		case len(name) > utilvalidation.DNS1123SubdomainMaxLength:
			faults = append(faults, field.Invalid(path.Index(i), name, fmt.Sprintf("invalid feature name %q: must be no more than %d characters", name, utilvalidation.DNS1123SubdomainMaxLength)))
		case !featureName.MatchString(name):
			faults = append(faults, field.Invalid(path.Index(i), name, fmt.Sprintf("invalid feature name %q: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes", name)))
		}
		if i == len(names)-1 {
			continue
		}
		switch next := names[i+1]; {
		case next == name:
			faults = append(faults, field.Duplicate(path.Index(i+1), next))
		case next < name:
			faults = append(faults, field.Invalid(path.Index(i+1), next, "list must be sorted alphabetically"))
		}
	}
	return faults
}

// checkPodCIDRs requires at most one range of each IP family.
func checkPodCIDRs(cidrs []string, path *field.Path) (faults field.ErrorList) {
	for i, cidr := range cidrs {
		faults = append(faults, utilvalidation.IsValidCIDRForLegacyField(path.Index(i), cidr, true, nil)...)
	}
	if len(cidrs) < 2 {
		return faults
	}
	both, err := netutils.IsDualStackCIDRStrings(cidrs)
	if err != nil {
		faults = append(faults, field.InternalError(path, fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%w", err)))
	}
	if !both || len(cidrs) > 2 {
		faults = append(faults, field.Invalid(path, cidrs, "may specify no more than one CIDR for each IP family"))
	}
	return faults
}

// checkPodCIDRChange allows ranges to be set once.
func checkPodCIDRChange(now, old []string, path *field.Path) (faults field.ErrorList) {
	if len(old) == 0 {
		return nil
	}
	const fault = "node updates may not change podCIDR except from \"\" to valid"
	if len(now) != len(old) {
		return field.ErrorList{field.Forbidden(path, fault)}
	}
	for i := range old {
		if now[i] != old[i] {
			faults = append(faults, field.Forbidden(path, fault))
		}
	}
	return faults
}

// checkProviderIDChange allows the provider ID to be set once.
func checkProviderIDChange(now, old string, path *field.Path) field.ErrorList {
	switch {
	case old == "" || now == old:
		return nil
	case now == "":
		return field.ErrorList{field.Invalid(path, nil, "field cannot be cleared once set")}
	}
	return field.ErrorList{field.Invalid(path, nil, "field cannot be modified once set")}
}

func checkAddresses(addresses []corev1.NodeAddress, path *field.Path) (faults field.ErrorList) {
	seen := sets.New[corev1.NodeAddress]()
	for i, address := range addresses {
		if seen.Has(address) {
			faults = append(faults, field.Duplicate(path.Index(i), validate.Shown(address)))
		}
		seen.Insert(address)
	}
	return faults
}
