// Package change says what may change in a stored Pod, and by which way: the Pod itself, its status, its
// ephemeral containers, its size. The rules, their order and their words are those of Kubernetes v1.37.
package change

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
)

var (
	metaPath        = field.NewPath("metadata")
	annotationsPath = metaPath.Child("annotations")
	specPath        = field.NewPath("spec")
)

// updatable is what the refusal of another change names.
const updatable = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// Update returns every fault of an update of a Pod by its own resource.
func Update(pod, old *corev1.Pod) field.ErrorList {
	var l fielderrors.List
	lenient := podspec.LenienceOf(&old.Spec, &old.ObjectMeta)
	l.Add(validate.MetaUpdate(&pod.ObjectMeta, &old.ObjectMeta)...)
	l.Add(podspec.Check(pod, lenient)...)
	annotations(&l, pod, old, lenient)
	if !images(&l, pod.Spec.Containers, old.Spec.Containers, specPath.Child("containers")) ||
		!images(&l, pod.Spec.InitContainers, old.Spec.InitContainers, specPath.Child("initContainers")) ||
		!deadline(&l, pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds) {
		return l.Errors()
	}
	tolerations(&l, pod.Spec.Tolerations, old.Spec.Tolerations, lenient)
	gates(&l, pod.Spec.SchedulingGates, old.Spec.SchedulingGates)
	if !apiequality.Semantic.DeepEqual(pod.Spec, old.Spec) {
		onlyUpdatable(&l, pod.Spec.DeepCopy(), &old.Spec)
	}
	return l.Errors()
}

// annotations judges changes of annotations that the node acts on: they are set once, when the Pod is made.
func annotations(l *fielderrors.List, pod, old *corev1.Pod, lenient podspec.Lenience) {
	for _, key := range fielderrors.Keys(old.Annotations) {
		if value, kept := pod.Annotations[key]; kept && value == old.Annotations[key] {
			continue
		}
		forbidAnnotation(l, key, "may not remove or update AppArmor annotations", "may not remove or update mirror pod annotation")
	}
	for _, key := range fielderrors.Keys(pod.Annotations) {
		if _, was := old.Annotations[key]; !was {
			forbidAnnotation(l, key, "may not add AppArmor annotations", "may not add mirror pod annotation")
		}
	}
	l.Add(podspec.CheckAnnotations(pod.Annotations, &pod.Spec, lenient, annotationsPath)...)
}

func forbidAnnotation(l *fielderrors.List, key, appArmor, mirror string) {
	switch {
	case strings.HasPrefix(key, podspec.AppArmorAnnotation):
		l.Forbidden(annotationsPath.Key(key), appArmor)
	case key == corev1.MirrorPodAnnotationKey:
		l.Forbidden(annotationsPath.Key(key), mirror)
	}
}

// images judges new images. It reports whether the containers are still as many, without which nothing else
// can be compared.
func images(l *fielderrors.List, containers, old []corev1.Container, at *field.Path) bool {
	if len(containers) != len(old) {
		l.Forbidden(at, "pod updates may not add or remove containers")
		return false
	}
	for i := range containers {
		image, path := containers[i].Image, at.Index(i).Child("image")
		if image == "" {
			l.Required(path, "")
		}
		if strings.TrimSpace(image) != image {
			l.Invalid(path, image, "must not have leading or trailing whitespace")
		}
	}
	return true
}

// deadline lets the time that a Pod may run be set or made shorter. It reports whether to go on.
func deadline(l *fielderrors.List, seconds, old *int64) bool {
	at := specPath.Child("activeDeadlineSeconds")
	switch {
	case seconds == nil && old != nil:
		l.Invalid(at, seconds, "must not update from a positive integer to nil value")
	case seconds == nil:
	case *seconds < 0 || *seconds > math.MaxInt32:
		l.Invalid(at, *seconds, validation.InclusiveRangeError(0, math.MaxInt32))
		return false
	case old != nil && *old < *seconds:
		l.Invalid(at, *seconds, "must be less than or equal to previous value")
		return false
	}
	return true
}

// tolerations lets tolerations be added, and the seconds of those there be changed.
func tolerations(l *fielderrors.List, list, old []corev1.Toleration, lenient podspec.Lenience) {
	at := specPath.Child("tolerations")
	for _, was := range old {
		kept := slices.ContainsFunc(list, func(t corev1.Toleration) bool {
			t.TolerationSeconds = was.TolerationSeconds
			return reflect.DeepEqual(t, was)
		})
		if !kept {
			l.Forbidden(at, "existing toleration can not be modified except its tolerationSeconds")
			return
		}
	}
	l.Add(podspec.CheckTolerations(list, lenient, at)...)
}

// gates lets scheduling gates only be taken away.
func gates(l *fielderrors.List, list, old []corev1.PodSchedulingGate) {
	for i, gate := range list {
		if !slices.Contains(old, gate) && !slices.Contains(list[i+1:], gate) {
			l.Forbidden(specPath.Child("schedulingGates").Index(i).Child("name"),
				fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name))
		}
	}
}

// onlyUpdatable puts back into s what was judged above and compares the rest with the old spec. s is changed.
func onlyUpdatable(l *fielderrors.List, s, old *corev1.PodSpec) {
	for i := range s.Containers {
		s.Containers[i].Image = old.Containers[i].Image
	}
	for i := range s.InitContainers {
		s.InitContainers[i].Image = old.InitContainers[i].Image
	}
	for _, list := range []*[]corev1.Container{&s.Containers, &s.InitContainers} {
		if len(*list) == 0 {
			*list = nil // an empty list is shown as none is
		}
	}
	s.ActiveDeadlineSeconds = old.ActiveDeadlineSeconds
	s.SchedulingGates = old.SchedulingGates
	s.Tolerations = old.Tolerations
	if was, now := old.TerminationGracePeriodSeconds, s.TerminationGracePeriodSeconds; was != nil && *was < 0 && now != nil && *now == 1 {
		s.TerminationGracePeriodSeconds = was
	}
	if len(old.SchedulingGates) > 0 {
		narrowed(l, s, old)
	}
	if !apiequality.Semantic.DeepEqual(*s, *old) {
		l.Forbidden(specPath, "pod updates may not change fields other than "+updatable+"\n"+diff.Diff(fielderrors.GoView(old), fielderrors.GoView(s)))
	}
}

// narrowed lets a Pod that is held back by a gate ask for fewer nodes than before, and puts what it asked
// before into s.
func narrowed(l *fielderrors.List, s, old *corev1.PodSpec) {
	if !apiequality.Semantic.DeepEqual(s.NodeSelector, old.NodeSelector) {
		for key, value := range old.NodeSelector {
			if now, kept := s.NodeSelector[key]; !kept || now != value {
				l.Invalid(specPath.Child("nodeSelector"), s.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)")
				break
			}
		}
		s.NodeSelector = old.NodeSelector
	}
	var was, now *corev1.NodeAffinity
	if old.Affinity != nil {
		was = old.Affinity.NodeAffinity
	}
	if s.Affinity != nil {
		now = s.Affinity.NodeAffinity
	}
	if apiequality.Semantic.DeepEqual(was, now) {
		return
	}
	narrowedAffinity(l, now, was)
	switch {
	case s.Affinity == nil:
		s.Affinity = &corev1.Affinity{NodeAffinity: was}
	case old.Affinity == nil && s.Affinity.PodAffinity == nil && s.Affinity.PodAntiAffinity == nil:
		s.Affinity = nil
	default:
		s.Affinity.NodeAffinity = was
	}
}

// narrowedAffinity lets requirements be added to each term, and no further terms: a node may match
// any of the terms, so one more would let in more nodes.
func narrowedAffinity(l *fielderrors.List, now, was *corev1.NodeAffinity) {
	if was == nil || was.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return
	}
	old := was.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	var terms []corev1.NodeSelectorTerm
	if now != nil && now.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		terms = now.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	at := specPath.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	if len(old) > 0 && len(old) != len(terms) {
		l.Invalid(at, fielderrors.GoView(terms), "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
		return
	}
	for i := range old {
		if !onlyAdds(&terms[i], &old[i]) {
			l.Invalid(at.Index(i), fielderrors.GoView(terms[i]), "only additions are allowed (no mutations or deletions)")
		}
	}
}

// onlyAdds reports whether a term asks for at least what it asked before. A term that asked for nothing matches
// nothing, and stays so.
func onlyAdds(now, was *corev1.NodeSelectorTerm) bool {
	if len(was.MatchExpressions) == 0 && len(was.MatchFields) == 0 {
		return len(now.MatchExpressions) == 0 && len(now.MatchFields) == 0
	}
	begins := func(now, was []corev1.NodeSelectorRequirement) bool {
		return len(now) >= len(was) && apiequality.Semantic.DeepEqual(now[:len(was)], was)
	}
	return begins(now.MatchExpressions, was.MatchExpressions) && begins(now.MatchFields, was.MatchFields)
}
