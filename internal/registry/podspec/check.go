package podspec

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
	"podium.dev/podium/internal/registry/kit/validate"
)

// checker goes through one spec and collects its faults. Its methods are in one file a concept.
type checker struct {
	fielderrors.List
	spec    *corev1.PodSpec
	meta    *metav1.ObjectMeta // of the Pod; nil for a template, which has no name yet
	lenient Lenience
	// volumes are the volumes without a fault, by their names: only these can be mounted.
	volumes map[string]*corev1.VolumeSource
	// claims are the names in spec.resourceClaims.
	claims sets.Set[string]
}

// Check returns every fault in the metadata and the spec of a Pod, new or updated.
func Check(pod *corev1.Pod, lenient Lenience) field.ErrorList {
	c := &checker{spec: &pod.Spec, meta: &pod.ObjectMeta, lenient: lenient}
	c.Add(validate.Meta(&pod.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)...)
	c.annotations(pod.Annotations, field.NewPath("metadata", "annotations"))
	path := field.NewPath("spec")
	c.podSpec(path)
	c.onlyForPods(path)
	return c.Errors()
}

// CheckNew returns every fault of a new Pod.
func CheckNew(pod *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	if faults := bounds(&pod.Spec, path); len(faults) > 0 {
		return faults
	}
	c := &checker{spec: &pod.Spec, List: fielderrors.List(Check(pod, Lenience{}))}
	if len(pod.Spec.EphemeralContainers) > 0 {
		c.Forbidden(path.Child("ephemeralContainers"), "cannot be set on create")
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) != 0 {
		c.Forbidden(path.Child("nodeName"), "cannot be set until all schedulingGates have been cleared")
	}
	c.seccompMatches(pod.Annotations, path)
	c.appArmorMatches(pod.Annotations, path)
	return c.Errors()
}

// CheckTemplate returns every fault of a Pod's template; old is the stored one or nil.
func CheckTemplate(template, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	if faults := bounds(&template.Spec, path.Child("spec")); len(faults) > 0 {
		return faults
	}
	c := &checker{spec: &template.Spec, lenient: LenienceOfTemplate(old)}
	at, annotations := path.Child("spec"), path.Child("annotations")
	c.Add(metavalidation.ValidateLabels(template.Labels, path.Child("labels"))...)
	c.Add(apivalidation.ValidateAnnotations(template.Annotations, annotations)...)
	c.annotations(template.Annotations, annotations)
	c.podSpec(at)
	c.seccompMatches(template.Annotations, at)
	c.appArmorMatches(template.Annotations, at)
	if len(template.Spec.EphemeralContainers) > 0 {
		c.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template")
	}
	return c.Errors()
}

// podSpec is everything that holds for the spec of a Pod and of a template. The order is that in which
// Kubernetes reports.
func (c *checker) podSpec(path *field.Path) {
	s := c.spec
	if s.TerminationGracePeriodSeconds == nil {
		c.Required(path.Child("terminationGracePeriodSeconds"), "")
	}
	c.checkVolumes(path.Child("volumes"))
	c.resourceClaims(path.Child("resourceClaims"))
	c.containers(path.Child("containers"))
	c.initContainers(path.Child("initContainers"))
	c.ephemeralContainers(path.Child("ephemeralContainers"))
	c.podResources(path.Child("resources"))
	c.hostNetworkPorts(path.Child("containers"))
	fielderrors.OneOfRequired(&c.List, path.Child("restartPolicy"), s.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	fielderrors.OneOfRequired(&c.List, path.Child("dnsPolicy"), s.DNSPolicy,
		corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	c.Add(metavalidation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
	c.podSecurity(path.Child("securityContext"))
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace && s.HostPID {
		c.Invalid(path.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled")
	}
	c.affinity(path.Child("affinity"))
	c.dnsConfig(path.Child("dnsConfig"))
	c.gates(path)
	c.topologySpread(path.Child("topologySpreadConstraints"))
	c.hostProcesses(path)
	c.hostUsers(path)
	c.hostnameOverride(path.Child("hostnameOverride"))
	c.names(path)
	c.tolerations(s.Tolerations, path.Child("tolerations"))
	c.hostAliases(path.Child("hostAliases"))
	c.classes(path)
	c.operatingSystem(path)
	c.envFiles(path)
}

// onlyForPods is what a template may have but a Pod may not.
func (c *checker) onlyForPods(path *field.Path) {
	if c.spec.ServiceAccountName == "" {
		for i := range c.spec.Volumes {
			if c.spec.Volumes[i].Projected == nil {
				continue
			}
			sources := path.Child("volumes").Index(i).Child("projected", "sources")
			for j, source := range c.spec.Volumes[i].Projected.Sources {
				if source.ServiceAccountToken != nil {
					c.Forbidden(sources.Index(j).Child("serviceAccountToken"), "must not be specified when serviceAccountName is not set")
				}
			}
		}
	}
	if grace := c.spec.TerminationGracePeriodSeconds; grace != nil {
		c.Add(apivalidation.ValidateNonnegativeField(*grace, path.Child("terminationGracePeriodSeconds"))...)
	}
	for i := range c.spec.Containers {
		c.imagePadding(&c.spec.Containers[i], path.Child("containers").Index(i))
	}
	for i := range c.spec.InitContainers {
		c.imagePadding(&c.spec.InitContainers[i], path.Child("initContainers").Index(i))
	}
}

// gates are the conditions that hold back readiness and scheduling.
func (c *checker) gates(path *field.Path) {
	for i, gate := range c.spec.ReadinessGates {
		c.qualifiedName(string(gate.ConditionType), path.Child("readinessGates").Index(i).Child("conditionType"))
	}
	seen := sets.New[string]()
	for i, gate := range c.spec.SchedulingGates {
		at := path.Child("schedulingGates").Index(i)
		c.qualifiedName(gate.Name, at)
		if seen.Has(gate.Name) {
			c.Duplicate(at, gate.Name)
		}
		seen.Insert(gate.Name)
	}
}

// names are the plain names and numbers in a spec.
func (c *checker) names(path *field.Path) {
	s := c.spec
	if s.ServiceAccountName != "" {
		c.InvalidEach(path.Child("serviceAccountName"), s.ServiceAccountName, apivalidation.ValidateServiceAccountName(s.ServiceAccountName, false))
	}
	if s.DeprecatedServiceAccount != s.ServiceAccountName {
		c.Invalid(path.Child("deprecatedServiceAccount"), s.DeprecatedServiceAccount,
			fmt.Sprintf("must be the same as serviceAccountName: %q", s.ServiceAccountName))
	}
	if s.NodeName != "" {
		c.InvalidEach(path.Child("nodeName"), s.NodeName, apivalidation.NameIsDNSSubdomain(s.NodeName, false))
	}
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > math.MaxInt32) {
		c.Invalid(path.Child("activeDeadlineSeconds"), *d, validation.InclusiveRangeError(1, math.MaxInt32))
	}
	if s.Hostname != "" {
		c.dnsLabel(s.Hostname, path.Child("hostname"))
	}
	if s.Subdomain != "" {
		c.dnsLabel(s.Subdomain, path.Child("subdomain"))
	}
}

// classes are the names of priority and runtime classes and what comes with them.
func (c *checker) classes(path *field.Path) {
	s := c.spec
	if s.PriorityClassName != "" {
		c.InvalidEach(path.Child("priorityClassName"), s.PriorityClassName, apivalidation.NameIsDNSSubdomain(s.PriorityClassName, false))
	}
	if s.RuntimeClassName != nil {
		c.InvalidEach(path.Child("runtimeClassName"), *s.RuntimeClassName, apivalidation.NameIsDNSSubdomain(*s.RuntimeClassName, false))
	}
	if s.PreemptionPolicy != nil {
		fielderrors.OneOfRequired(&c.List, path.Child("preemptionPolicy"), *s.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
	if s.Overhead != nil {
		c.resources(&corev1.ResourceRequirements{Limits: s.Overhead}, containerResource, nil, path.Child("overhead"))
	}
}

func (c *checker) dnsLabel(value string, path *field.Path) {
	c.InvalidEach(path, value, validation.IsDNS1123Label(value))
}

func (c *checker) dnsSubdomain(value string, path *field.Path) {
	c.InvalidEach(path, value, validation.IsDNS1123Subdomain(value))
}

func (c *checker) qualifiedName(value string, path *field.Path) {
	c.InvalidEach(path, value, validation.IsQualifiedName(value))
}
