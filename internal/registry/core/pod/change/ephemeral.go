package change

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
)

// EphemeralContainers returns every fault of an update of a Pod's ephemeral containers: they can be
// added, never changed or taken away.
func EphemeralContainers(pod, old *corev1.Pod) field.ErrorList {
	if isMirror(old) {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	var l fielderrors.List
	lenient := podspec.LenienceOf(&old.Spec, &old.ObjectMeta)
	l.Add(validate.MetaUpdate(&pod.ObjectMeta, &old.ObjectMeta)...)
	l.Add(podspec.Check(pod, lenient)...)
	annotations(&l, pod, old, lenient)
	at := specPath.Child("ephemeralContainers")
	now := map[string]*corev1.EphemeralContainer{}
	for i := range pod.Spec.EphemeralContainers {
		now[pod.Spec.EphemeralContainers[i].Name] = &pod.Spec.EphemeralContainers[i]
	}
	for i := range old.Spec.EphemeralContainers {
		was := &old.Spec.EphemeralContainers[i]
		if now[was.Name] == nil {
			l.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", was.Name))
		} else if !apiequality.Semantic.DeepEqual(was, now[was.Name]) {
			l.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v",
				was.Name, diff.Diff(fielderrors.GoView(was), fielderrors.GoView(now[was.Name]))))
		}
	}
	return l.Errors()
}

// isMirror reports whether a Pod only shows what a node runs from a file of its own.
func isMirror(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror
}
