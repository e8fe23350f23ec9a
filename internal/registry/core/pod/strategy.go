package pod

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/registry/podspec"
)

// rules are what happens to a Pod on its way into the store.
type rules struct{ clock clock.PassiveClock }

// prepare makes a new Pod: Pending, first generation, with what follows from its spec.
func (r rules) prepare(ctx context.Context, pod *corev1.Pod) {
	pod.Generation = 1
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	podspec.Prune(pod)
	if len(pod.Spec.SchedulingGates) > 0 {
		setCondition(&pod.Status, corev1.PodCondition{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",
		}, metav1.NewTime(r.clock.Now()))
	}
	podspec.MergeLabelKeys(pod)
	appArmorFields(ctx, pod)
	podspec.CompletePodResources(pod)
	pod.Status.QOSClass = podutil.QOSClass(pod)
}

// appArmorFields turns the annotations that named AppArmor profiles into the fields that took their place.
func appArmorFields(ctx context.Context, pod *corev1.Pod) {
	if pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		return
	}
	var whole *corev1.AppArmorProfile
	if pod.Spec.SecurityContext != nil {
		whole = pod.Spec.SecurityContext.AppArmorProfile
	}
	for c := range podspec.Containers(&pod.Spec) {
		key := podspec.AppArmorAnnotation + c.Name
		text, ok := pod.Annotations[key]
		if !ok || c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			continue
		}
		profile := podspec.AppArmorProfileOf(text)
		if len(podspec.CheckAppArmorProfile(profile, nil)) > 0 {
			profile = nil
		}
		set := profile != nil && !apiequality.Semantic.DeepEqual(profile, whole)
		if set {
			if c.SecurityContext == nil {
				c.SecurityContext = &corev1.SecurityContext{}
			}
			c.SecurityContext.AppArmorProfile = profile
		}
		if set || profile == nil {
			warning.AddWarning(ctx, "", field.NewPath("metadata", "annotations").Key(key).String()+`: deprecated since v1.30; use the "appArmorProfile" field instead`)
		}
	}
}

func validate(_ context.Context, pod *corev1.Pod) field.ErrorList { return podspec.CheckNew(pod) }

func validateUpdate(f func(pod, old *corev1.Pod) field.ErrorList) func(context.Context, *corev1.Pod, *corev1.Pod) field.ErrorList {
	return func(_ context.Context, pod, old *corev1.Pod) field.ErrorList { return f(pod, old) }
}

// warn warns of new Pods only: updates are made by programs, and often.
func warn(_ context.Context, pod, old *corev1.Pod) []string {
	if old != nil {
		return nil
	}
	return podspec.Warn(pod)
}

func prepareUpdate(_ context.Context, pod, old *corev1.Pod) {
	pod.Status = old.Status
	keepPodResources(pod, old)
	podspec.Prune(pod)
	countSpec(pod, old)
}

// keepPodResources keeps the resources of the Pod as a whole when a client that does not know them leaves
// them out.
func keepPodResources(pod, old *corev1.Pod) {
	if pod.Spec.Resources == nil && old.Spec.Resources != nil {
		pod.Spec.Resources = old.Spec.Resources.DeepCopy()
	}
}

// countSpec counts a change of the spec in the generation.
func countSpec(pod, old *corev1.Pod) {
	if !apiequality.Semantic.DeepEqual(pod.Spec, old.Spec) {
		pod.Generation++
	}
}

// prepareStatus keeps everything but the status, and of the status what a client that does not know a field
// would lose.
func prepareStatus(_ context.Context, pod, old *corev1.Pod) {
	pod.Spec = old.Spec
	pod.DeletionTimestamp = nil
	pod.OwnerReferences = old.OwnerReferences
	s, was := &pod.Status, &old.Status
	if s.QOSClass == "" {
		s.QOSClass = was.QOSClass
	}
	if s.ResourceClaimStatuses == nil {
		s.ResourceClaimStatuses = was.ResourceClaimStatuses
	}
	if s.ExtendedResourceClaimStatus == nil {
		s.ExtendedResourceClaimStatus = was.ExtendedResourceClaimStatus
	}
	keepObservedGenerations(s, was)
	podspec.PruneStatus(pod)
}

// keepObservedGenerations keeps what generation the status and its conditions are about where a client says
// none. There may be several conditions of one type; they are taken in order.
func keepObservedGenerations(s, was *corev1.PodStatus) {
	if s.ObservedGeneration == 0 {
		s.ObservedGeneration = was.ObservedGeneration
	}
	old := map[corev1.PodConditionType][]int64{}
	for _, c := range was.Conditions {
		old[c.Type] = append(old[c.Type], c.ObservedGeneration)
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		if len(old[c.Type]) == 0 {
			continue
		}
		if c.ObservedGeneration == 0 {
			c.ObservedGeneration = old[c.Type][0]
		}
		old[c.Type] = old[c.Type][1:]
	}
}

func warnStatus(_ context.Context, pod, _ *corev1.Pod) (warnings []string) {
	path := field.NewPath("status")
	for i, ip := range pod.Status.PodIPs {
		warnings = append(warnings, validation.GetWarningsForIP(path.Child("podIPs").Index(i).Child("ip"), ip.IP)...)
	}
	for i, ip := range pod.Status.HostIPs {
		warnings = append(warnings, validation.GetWarningsForIP(path.Child("hostIPs").Index(i).Child("ip"), ip.IP)...)
	}
	return warnings
}

// prepareEphemeralContainers keeps everything but the ephemeral containers.
func prepareEphemeralContainers(_ context.Context, pod, old *corev1.Pod) {
	wanted := pod.Spec.EphemeralContainers
	pod.Spec, pod.Status = old.Spec, old.Status
	metav1.ResetObjectMetaForStatus(&pod.ObjectMeta, &old.ObjectMeta)
	pod.Spec.EphemeralContainers = wanted
	podspec.Prune(pod)
	countSpec(pod, old)
}

// prepareResize keeps everything but the resources. When the containers are not the same ones it keeps
// nothing, so that validation can say so.
func prepareResize(_ context.Context, pod, old *corev1.Pod) {
	if len(pod.Spec.Containers) == len(old.Spec.Containers) && len(pod.Spec.InitContainers) == len(old.Spec.InitContainers) {
		wanted := pod.Spec
		pod.Spec, pod.Status = old.Spec, old.Status
		metav1.ResetObjectMetaForStatus(&pod.ObjectMeta, &old.ObjectMeta)
		pod.Spec.Resources = wanted.Resources
		pod.Spec.Containers = withResources(old.Spec.Containers, wanted.Containers)
		pod.Spec.InitContainers = withResources(old.Spec.InitContainers, wanted.InitContainers)
	}
	keepPodResources(pod, old)
	podspec.CompletePodResources(pod)
	podspec.Prune(pod)
	countSpec(pod, old)
}

// withResources returns the old containers and the resources wanted, or those wanted when they are
// not the same containers.
func withResources(old, wanted []corev1.Container) []corev1.Container {
	if len(wanted) == 0 {
		return wanted
	}
	out := make([]corev1.Container, len(old))
	copy(out, old)
	for i := range wanted {
		if out[i].Name != wanted[i].Name {
			return wanted
		}
		out[i].Resources, out[i].ResizePolicy = wanted[i].Resources, wanted[i].ResizePolicy
	}
	return out
}

// gracefulDelete gives a Pod its time to end: what the request says, or else the Pod. A Pod that runs nowhere
// or has ended needs none.
func gracefulDelete(_ context.Context, pod *corev1.Pod, options *metav1.DeleteOptions) bool {
	if options == nil {
		return false
	}
	var period int64
	switch {
	case pod.Spec.NodeName == "" || podutil.Ended(pod):
	case options.GracePeriodSeconds != nil:
		period = *options.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		period = *pod.Spec.TerminationGracePeriodSeconds
	}
	if period < 0 {
		period = 1
	}
	options.GracePeriodSeconds = &period
	return true
}

// setCondition puts a condition into a status, in the place of one of its type. The time of the last change
// stays when the condition's status does.
func setCondition(s *corev1.PodStatus, c corev1.PodCondition, now metav1.Time) {
	c.LastTransitionTime = now
	for i := range s.Conditions {
		if old := &s.Conditions[i]; old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			*old = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}
