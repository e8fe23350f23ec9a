package change

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// What a Pod's status says of the devices that it claimed.

func claimStatuses(l *fielderrors.List, list []corev1.PodResourceClaimStatus, claims []corev1.PodResourceClaim) {
	known, seen := sets.New[string](), sets.New[string]()
	for i := range claims {
		known.Insert(claims[i].Name)
	}
	for i, s := range list {
		at := statusPath.Child("resourceClaimStatuses").Index(i)
		if !known.Has(s.Name) {
			l.Invalid(at.Child("name"), s.Name, "must match the name of an entry in `spec.resourceClaims`")
		}
		if seen.Has(s.Name) {
			l.Duplicate(at.Child("name"), s.Name)
		}
		seen.Insert(s.Name)
		if s.ResourceClaimName != nil {
			l.InvalidEach(at.Child("resourceClaimName"), s.ResourceClaimName, apivalidation.NameIsDNSSubdomain(*s.ResourceClaimName, false))
		}
	}
}

// extendedClaim judges the claim that was made for the extended resources which containers ask for.
func extendedClaim(l *fielderrors.List, s *corev1.PodExtendedResourceClaimStatus, pod *corev1.PodSpec) {
	if s == nil {
		return
	}
	at := statusPath.Child("extendedResourceClaimStatus")
	mappings := at.Child("requestMappings")
	if len(s.RequestMappings) == 0 {
		l.Required(mappings, "at least one request mapping is required")
	}
	containers := map[string]*corev1.Container{}
	for _, list := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for i := range list {
			containers[list[i].Name] = &list[i]
		}
	}
	seen := sets.New[corev1.ContainerExtendedResourceRequest]()
	for i, m := range s.RequestMappings {
		path := mappings.Index(i)
		if c := containers[m.ContainerName]; c == nil {
			l.Invalid(path.Child("containerName"), m.ContainerName, "must match the name of an entry in spec.initContainers.name or spec.containers.name")
		} else if _, asked := c.Resources.Requests[corev1.ResourceName(m.ResourceName)]; !asked {
			l.Invalid(path.Child("resourceName"), m.ResourceName, "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests")
		}
		l.InvalidEach(at.Child("requestName"), m.RequestName, validation.IsDNS1123Label(m.RequestName))
		if seen.Has(m) {
			l.Duplicate(path.Child("containerName"), m.ContainerName)
			l.Duplicate(path.Child("resourceName"), m.ResourceName)
			l.Duplicate(path.Child("requestName"), m.RequestName)
		}
		seen.Insert(m)
	}
	if s.ResourceClaimName == "" {
		l.Required(at.Child("resourceClaimName"), "")
	} else {
		l.InvalidEach(at.Child("resourceClaimName"), s.ResourceClaimName, apivalidation.NameIsDNSSubdomain(s.ResourceClaimName, false))
	}
}

// healthOf judges what is said of the health of the devices that containers were given. Ephemeral containers
// are given none.
func healthOf(l *fielderrors.List, pod *corev1.Pod) {
	s := &pod.Status
	containersHealth(l, s.ContainerStatuses, pod.Spec.Containers, s, statusPath.Child("containerStatuses"))
	containersHealth(l, s.InitContainerStatuses, pod.Spec.InitContainers, s, statusPath.Child("initContainerStatuses"))
	for i := range s.EphemeralContainerStatuses {
		if len(s.EphemeralContainerStatuses[i].AllocatedResourcesStatus) > 0 {
			l.Forbidden(statusPath.Child("ephemeralContainerStatuses").Index(i).Child("allocatedResourcesStatus"), "must not be specified in container status")
		}
	}
}

func containersHealth(l *fielderrors.List, list []corev1.ContainerStatus, containers []corev1.Container, s *corev1.PodStatus, at *field.Path) {
	for i := range list {
		for j := range list[i].AllocatedResourcesStatus {
			r, path := &list[i].AllocatedResourcesStatus[j], at.Index(i).Child("allocatedResourcesStatus").Index(j)
			for k := range containers {
				if containers[k].Name == list[i].Name {
					givenTo(l, r.Name, &containers[k], s.ExtendedResourceClaimStatus, path.Child("name"))
					break
				}
			}
			devicesHealth(l, r.Resources, path.Child("resources"))
		}
	}
}

const claimPrefix = "claim:"

// givenTo wants a resource to be one that the container asks for, by its name or as claim:CLAIM[/REQUEST].
func givenTo(l *fielderrors.List, name corev1.ResourceName, c *corev1.Container, extended *corev1.PodExtendedResourceClaimStatus, at *field.Path) {
	claim, claimed := strings.CutPrefix(string(name), claimPrefix)
	if !claimed {
		if _, asked := c.Resources.Requests[name]; !asked {
			l.Invalid(at, name, "must match one of the container's resource requests")
		}
		return
	}
	for _, own := range c.Resources.Claims {
		text := own.Name
		if own.Request != "" {
			text += "/" + own.Request
		}
		if text == claim {
			return
		}
	}
	if !fromExtended(claim, c, extended) {
		l.Invalid(at, name, "must match one of the container's resource claims as 'claim:<claimName>/<requestName>' when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty")
	}
}

// fromExtended reports whether CLAIM/REQUEST is what the container's extended resources became.
func fromExtended(claim string, c *corev1.Container, s *corev1.PodExtendedResourceClaimStatus) bool {
	name, request, _ := strings.Cut(claim, "/")
	if s == nil || request == "" || name == "" || name != s.ResourceClaimName {
		return false
	}
	for _, m := range s.RequestMappings {
		if m.ContainerName != c.Name || m.RequestName != request {
			continue
		}
		if q, asked := c.Resources.Requests[corev1.ResourceName(m.ResourceName)]; asked && !q.IsZero() {
			return true
		}
	}
	return false
}

func devicesHealth(l *fielderrors.List, devices []corev1.ResourceHealth, at *field.Path) {
	seen := sets.New[corev1.ResourceID]()
	for i, d := range devices {
		path := at.Index(i)
		fielderrors.OneOf(l, path.Child("health"), d.Health,
			corev1.ResourceHealthStatusHealthy, corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown)
		if d.Message != nil {
			if *d.Message == "" {
				l.Required(path.Child("message"), "must be non-empty if specified")
			} else if len(*d.Message) > corev1.ResourceHealthMessageMaxLength {
				l.TooLong(path.Child("message"), corev1.ResourceHealthMessageMaxLength)
			}
		}
		if seen.Has(d.ResourceID) {
			l.Duplicate(path.Child("resourceID"), d.ResourceID)
		}
		seen.Insert(d.ResourceID)
	}
}
