package change

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"podium.dev/podium/internal/registry/kit/fielderrors"
	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
)

var statusPath = field.NewPath("status")

// Status returns every fault of an update of a Pod's status.
func Status(pod, old *corev1.Pod) field.ErrorList {
	var l fielderrors.List
	l.Add(validate.MetaUpdate(&pod.ObjectMeta, &old.ObjectMeta)...)
	annotations(&l, pod, old, podspec.LenienceOf(&old.Spec, &old.ObjectMeta))
	conditions(&l, pod.Status.Conditions)
	nominatedNode(&l, pod, old)
	if g := pod.Status.ObservedGeneration; g < 0 {
		l.Invalid(statusPath.Child("observedGeneration"), g, "must be a non-negative integer")
	}
	l.Add(apivalidation.ValidateImmutableField(pod.Status.QOSClass, old.Status.QOSClass, statusPath.Child("qosClass"))...)
	transitions(&l, pod, old)
	claimStatuses(&l, pod.Status.ResourceClaimStatuses, pod.Spec.ResourceClaims)
	extendedClaim(&l, pod.Status.ExtendedResourceClaimStatus, &pod.Spec)
	podIPs(&l, &pod.Status, &old.Status)
	hostIPs(&l, &pod.Status, &old.Status)
	for _, list := range statusLists(&pod.Status) {
		users(&l, list.statuses, pod.Spec.OS, statusPath.Child(list.name))
	}
	healthOf(&l, pod)
	return l.Errors()
}

// statusList is one of the three lists of container statuses.
type statusList struct {
	name     string
	statuses []corev1.ContainerStatus
}

func statusLists(s *corev1.PodStatus) []statusList {
	return []statusList{
		{"containerStatuses", s.ContainerStatuses}, {"initContainerStatuses", s.InitContainerStatuses},
		{"ephemeralContainerStatuses", s.EphemeralContainerStatuses},
	}
}

func conditions(l *fielderrors.List, list []corev1.PodCondition) {
	for i, c := range list {
		at := statusPath.Child("conditions").Index(i)
		if c.ObservedGeneration < 0 {
			l.Invalid(at.Child("observedGeneration"), c.ObservedGeneration, "must be a non-negative integer")
		}
		l.InvalidEach(at.Child("Type"), string(c.Type), validation.IsQualifiedName(string(c.Type)))
	}
}

// nominatedNode lets a node be nominated only for a Pod that has none.
func nominatedNode(l *fielderrors.List, pod, old *corev1.Pod) {
	name, at := pod.Status.NominatedNodeName, statusPath.Child("nominatedNodeName")
	if name == "" || name == old.Status.NominatedNodeName {
		return
	}
	l.InvalidEach(at, name, apivalidation.NameIsDNSSubdomain(name, false))
	if old.Spec.NodeName != "" {
		l.Forbidden(at, "may not be set on pods that are already bound to a node")
	}
}

// transitions refuses that a container which has ended for good is said to run again.
func transitions(l *fielderrors.List, pod, old *corev1.Pod) {
	s := &old.Spec
	everything := restartsEverything(s)
	again := func(containers []corev1.Container) func(string, int32) bool {
		return func(name string, exitCode int32) bool {
			if everything {
				return true
			}
			for i := range containers {
				if containers[i].Name == name {
					return restarts(&containers[i], s.RestartPolicy, exitCode)
				}
			}
			return false
		}
	}
	never := func(string, int32) bool { return false }
	rules := []func(string, int32) bool{again(s.Containers), again(s.InitContainers), never}
	now, was := statusLists(&pod.Status), statusLists(&old.Status)
	for i := range was {
		revived(l, now[i].statuses, was[i].statuses, rules[i], statusPath.Child(was[i].name))
	}
}

// revived tells the containers that had ended, do not end any more, and may not run again.
func revived(l *fielderrors.List, now, was []corev1.ContainerStatus, may func(name string, exitCode int32) bool, at *field.Path) {
	for i := range was {
		ended := was[i].State.Terminated
		if ended == nil {
			continue
		}
		for j := range now {
			if now[j].Name == was[i].Name && now[j].State.Terminated == nil {
				if !may(was[i].Name, ended.ExitCode) {
					l.Forbidden(at.Index(i).Child("state"), "may not be transitioned to non-terminated state")
				}
				break
			}
		}
	}
}

// restartsEverything reports whether the end of some container may restart all others.
func restartsEverything(s *corev1.PodSpec) bool {
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			for _, rule := range list[i].RestartPolicyRules {
				if rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers {
					return true
				}
			}
		}
	}
	return false
}

// restarts reports whether a container that ended with an exit code is started again: its rules come first, then
// its own policy, then the Pod's.
func restarts(c *corev1.Container, pod corev1.RestartPolicy, exitCode int32) bool {
	policy := string(pod)
	if c.RestartPolicy != nil {
		if action := ruleFor(c, exitCode); action != "" {
			return true
		}
		policy = string(*c.RestartPolicy)
	}
	switch policy {
	case string(corev1.RestartPolicyOnFailure):
		return exitCode != 0
	case string(corev1.RestartPolicyNever):
		return false
	}
	return true
}

// ruleFor returns the action of the first rule that an exit code fits, or "".
func ruleFor(c *corev1.Container, exitCode int32) corev1.ContainerRestartRuleAction {
	for _, rule := range c.RestartPolicyRules {
		if rule.ExitCodes == nil {
			continue
		}
		listed := sets.New(rule.ExitCodes.Values...).Has(exitCode)
		switch rule.ExitCodes.Operator {
		case corev1.ContainerRestartRuleOnExitCodesOpIn:
			if listed {
				return rule.Action
			}
		case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
			if !listed {
				return rule.Action
			}
		}
	}
	return ""
}

func podIPs(l *fielderrors.List, s, old *corev1.PodStatus) {
	at := statusPath.Child("podIPs")
	addresses(l, ipsOf(s.PodIPs), ipsOf(old.PodIPs), fielderrors.GoView(s.PodIPs), at)
	switch {
	case (s.PodIP != "") != (len(s.PodIPs) > 0):
		l.Invalid(at, fielderrors.GoView(s.PodIPs), "podIP and podIPs must either both be set or both be unset")
	case len(s.PodIPs) > 0 && s.PodIP != s.PodIPs[0].IP:
		l.Invalid(at.Index(0).Child("ip"), s.PodIPs[0].IP, "must be equal to `podIP`")
	}
}

func hostIPs(l *fielderrors.List, s, old *corev1.PodStatus) {
	if len(s.HostIPs) == 0 {
		return
	}
	at := statusPath.Child("hostIPs")
	if s.HostIP != s.HostIPs[0].IP {
		l.Invalid(at.Index(0).Child("ip"), s.HostIPs[0].IP, "must be equal to `hostIP`")
	}
	addresses(l, ipsOf(s.HostIPs), ipsOf(old.HostIPs), fielderrors.GoView(s.HostIPs), at)
}

func ipsOf[T corev1.PodIP | corev1.HostIP](list []T) (ips []string) {
	for _, entry := range list {
		ips = append(ips, corev1.PodIP(entry).IP)
	}
	return ips
}

// addresses wants valid addresses, at most one of each family. Invalid ones that were there may stay.
func addresses(l *fielderrors.List, ips, old []string, shown any, at *field.Path) {
	for i, ip := range ips {
		l.Add(validation.IsValidIPForLegacyField(at.Index(i), ip, true, old)...)
	}
	if len(ips) < 2 {
		return
	}
	dual, err := netutils.IsDualStackIPStrings(ips)
	if err != nil {
		l.Add(field.InternalError(at, fmt.Errorf("failed to check for dual stack with error:%v", err)))
	}
	if !dual || len(ips) > 2 {
		l.Invalid(at, shown, "may specify no more than one IP for each IP family")
	}
}

// users judges the users that containers are reported to run as.
func users(l *fielderrors.List, list []corev1.ContainerStatus, os *corev1.PodOS, at *field.Path) {
	for i := range list {
		if list[i].User == nil || list[i].User.Linux == nil {
			continue
		}
		u, path := list[i].User.Linux, at.Index(i).Child("user", "linux")
		switch {
		case os != nil && os.Name == corev1.Windows:
			l.Forbidden(path, "cannot be set for a windows pod")
		case os == nil || os.Name == corev1.Linux:
			// What the kernel has is reported as it is: all of a uid_t, more than a Pod may ask for.
			if u.UID < 0 || u.UID > math.MaxUint32 {
				l.Invalid(path.Child("uid"), u.UID, fmt.Sprintf("must be between 0 and %d, inclusive", int64(math.MaxUint32)))
			}
			l.InvalidEach(path.Child("gid"), u.GID, validation.IsValidGroupID(u.GID))
			for j, gid := range u.SupplementalGroups {
				l.InvalidEach(path.Child("supplementalGroups").Index(j), gid, validation.IsValidGroupID(gid))
			}
		}
	}
}
