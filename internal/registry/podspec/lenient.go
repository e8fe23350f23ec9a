package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"

	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// Lenience says what an update may keep although a new object may not have it: what the stored object has
// from a time with looser rules. The zero value is for new objects.
type Lenience struct {
	deletionCost        bool // an annotation controller.kubernetes.io/pod-deletion-cost that is no number
	selectorValues      bool // label values in (anti-)affinity that are none
	nodeAffinityValues  bool // label values in required node affinity that are none
	spreadSelector      bool // a faulty selector in a topology spread constraint
	spreadKeys          bool // faulty matchLabelKeys in a topology spread constraint
	hugePages           bool // amounts that are no whole number of huge pages
	tokenPath           bool // a projected token that leaves its volume
	hostSysctls         bool // sysctls of a namespace that the Pod shares with the host
	initRestartOnResize bool // an init container that restarts when it is resized
	usernsDevices       bool // block devices in a user namespace
	usernsHostNetwork   bool // the host's network in a user namespace
	numericTolerations  bool // tolerations that compare numbers
	emptyImage          bool // an image volume without a reference
	sysAdmin            bool // CAP_SYS_ADMIN without privilege escalation
	resolverLines       bool // options of the resolver with line breaks
}

// LenienceOf returns what an update of an object with this spec and metadata may keep.
func LenienceOf(old *corev1.PodSpec, meta *metav1.ObjectMeta) Lenience {
	_, costErr := deletionCost(meta.Annotations)
	return Lenience{
		deletionCost:        costErr != nil,
		selectorValues:      hasFaultyAffinitySelector(old.Affinity),
		nodeAffinityValues:  hasFaultyNodeAffinityValue(old.Affinity),
		spreadSelector:      hasFaultySpreadSelector(old.TopologySpreadConstraints),
		spreadKeys:          hasFaultySpreadKeys(old.TopologySpreadConstraints),
		hugePages:           hasBrokenHugePages(old),
		tokenPath:           hasStrayTokenPath(old.Volumes),
		hostSysctls:         hasHostSysctl(old),
		initRestartOnResize: hasInitRestartOnResize(old.InitContainers),
		usernsDevices:       inUserNamespace(old) && hasVolumeDevices(old),
		usernsHostNetwork:   inUserNamespace(old) && old.HostNetwork,
		numericTolerations:  hasNumericToleration(old.Tolerations),
		emptyImage:          hasEmptyImageVolume(old.Volumes),
		sysAdmin:            hasSysAdminWithoutEscalation(old),
		resolverLines:       hasResolverLines(old.DNSConfig),
	}
}

// LenienceOfTemplate is LenienceOf for a template; nil is a new one.
func LenienceOfTemplate(old *corev1.PodTemplateSpec) Lenience {
	if old == nil {
		return Lenience{}
	}
	return LenienceOf(&old.Spec, &old.ObjectMeta)
}

func hasFaultyAffinitySelector(a *corev1.Affinity) bool {
	if a == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	if p := a.PodAffinity; p != nil {
		terms = append(terms, p.RequiredDuringSchedulingIgnoredDuringExecution...)
		terms = append(terms, unweighted(p.PreferredDuringSchedulingIgnoredDuringExecution)...)
	}
	if p := a.PodAntiAffinity; p != nil {
		terms = append(terms, p.RequiredDuringSchedulingIgnoredDuringExecution...)
		terms = append(terms, unweighted(p.PreferredDuringSchedulingIgnoredDuringExecution)...)
	}
	for i := range terms {
		var faults fielderrors.List
		affinitySelectors(&faults, &terms[i], false, nil)
		if len(faults) > 0 {
			return true
		}
	}
	return false
}

func unweighted(terms []corev1.WeightedPodAffinityTerm) (out []corev1.PodAffinityTerm) {
	for i := range terms {
		out = append(out, terms[i].PodAffinityTerm)
	}
	return out
}

func hasFaultyNodeAffinityValue(a *corev1.Affinity) bool {
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return false
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, expression := range term.MatchExpressions {
			for _, value := range expression.Values {
				if len(validation.IsValidLabelValue(value)) > 0 {
					return true
				}
			}
		}
	}
	return false
}

func hasFaultySpreadSelector(constraints []corev1.TopologySpreadConstraint) bool {
	for i := range constraints {
		if len(metavalidation.ValidateLabelSelector(constraints[i].LabelSelector, metavalidation.LabelSelectorValidationOptions{}, nil)) > 0 {
			return true
		}
	}
	return false
}

func hasFaultySpreadKeys(constraints []corev1.TopologySpreadConstraint) bool {
	for i := range constraints {
		var faults fielderrors.List
		labelKeys(&faults, nil, constraints[i].MatchLabelKeys, nil, constraints[i].LabelSelector)
		if len(faults) > 0 {
			return true
		}
	}
	return false
}

func hasBrokenHugePages(s *corev1.PodSpec) bool {
	broken := func(list corev1.ResourceList) bool {
		for name, q := range list {
			if IsHugePages(name) && !wholePages(name, q) {
				return true
			}
		}
		return false
	}
	for c := range Containers(s) {
		if broken(c.Resources.Limits) || broken(c.Resources.Requests) {
			return true
		}
	}
	return broken(s.Overhead)
}

func hasStrayTokenPath(volumes []corev1.Volume) bool {
	for i := range volumes {
		if volumes[i].Projected == nil {
			continue
		}
		for _, source := range volumes[i].Projected.Sources {
			var faults fielderrors.List
			if source.ServiceAccountToken != nil {
				pathInVolume(&faults, source.ServiceAccountToken.Path, nil)
			}
			if len(faults) > 0 {
				return true
			}
		}
	}
	return false
}

func hasHostSysctl(s *corev1.PodSpec) bool {
	if s.SecurityContext == nil {
		return false
	}
	for _, sysctl := range s.SecurityContext.Sysctls {
		var faults fielderrors.List
		hostSysctl(&faults, sysctl.Name, s, nil)
		if len(faults) > 0 {
			return true
		}
	}
	return false
}

func hasInitRestartOnResize(containers []corev1.Container) bool {
	for i := range containers {
		if podutil.IsSidecar(&containers[i]) {
			continue
		}
		for _, p := range containers[i].ResizePolicy {
			if p.RestartPolicy == corev1.RestartContainer {
				return true
			}
		}
	}
	return false
}

func inUserNamespace(s *corev1.PodSpec) bool { return s.HostUsers != nil && !*s.HostUsers }

func hasVolumeDevices(s *corev1.PodSpec) bool {
	for c := range Containers(s) {
		if len(c.VolumeDevices) > 0 {
			return true
		}
	}
	return false
}

func hasNumericToleration(tolerations []corev1.Toleration) bool {
	for i := range tolerations {
		if op := tolerations[i].Operator; op == corev1.TolerationOpLt || op == corev1.TolerationOpGt {
			return true
		}
	}
	return false
}

func hasEmptyImageVolume(volumes []corev1.Volume) bool {
	for i := range volumes {
		if volumes[i].Image != nil && volumes[i].Image.Reference == "" {
			return true
		}
	}
	return false
}

func hasResolverLines(d *corev1.PodDNSConfig) bool {
	return d != nil && slices.ContainsFunc(d.Options, func(o corev1.PodDNSConfigOption) bool { return !oneLine(o) })
}

func hasSysAdminWithoutEscalation(s *corev1.PodSpec) bool {
	for c := range Containers(s) {
		sc := c.SecurityContext
		if sc == nil || sc.AllowPrivilegeEscalation != nil && *sc.AllowPrivilegeEscalation {
			continue
		}
		if addsSysAdmin(sc) {
			return true
		}
	}
	return false
}
