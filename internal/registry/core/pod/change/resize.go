package change

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/registry/kit/fielderrors"
	"podium.dev/podium/internal/registry/kit/validate"
	"podium.dev/podium/internal/registry/podspec"
)

// Resize returns every fault of a change of a running Pod's size. Only processor and memory may change.
func Resize(pod, old *corev1.Pod) field.ErrorList {
	switch {
	case isMirror(old):
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	case old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows:
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	var l fielderrors.List
	l.Add(validate.MetaUpdate(&pod.ObjectMeta, &old.ObjectMeta)...)
	l.Add(podspec.Check(pod, podspec.LenienceOf(&old.Spec, &old.ObjectMeta))...)
	if podutil.QOSClass(old) != podutil.QOSClassFromResources(pod) {
		l.Invalid(specPath, pod.Status.QOSClass, "Pod QOS Class may not change as a result of resizing")
	}
	if !nodeCanResize(old) {
		l.Forbidden(specPath, "Pod running on node without support for resize")
	}
	rest := pod.Spec.DeepCopy()
	if hasResources(pod) || hasResources(old) {
		resizePod(&l, rest, &old.Spec)
	}
	if !sameContainers(&l, &pod.Spec, &old.Spec) {
		return l.Errors()
	}
	keptResources(&l, pod.Spec.InitContainers, old.Spec.InitContainers, specPath.Child("initContainers"))
	keptResources(&l, pod.Spec.Containers, old.Spec.Containers, specPath.Child("containers"))
	resizeContainers(&l, rest, &old.Spec)
	resizeInitContainers(&l, rest, &old.Spec)
	if !apiequality.Semantic.DeepEqual(pod.Spec.Volumes, old.Spec.Volumes) {
		l.Forbidden(specPath.Child("volumes"), "volumes are immutable on resize when InPlacePodVerticalScalingMemoryBackedVolumes feature gate is disabled")
	}
	if len(l) == 0 && !apiequality.Semantic.DeepEqual(*rest, old.Spec) {
		l.Forbidden(specPath, "only cpu and memory resources are mutable")
	}
	return l.Errors()
}

func hasResources(pod *corev1.Pod) bool {
	r := pod.Spec.Resources
	return r != nil && len(r.Requests)+len(r.Limits) > 0
}

// nodeCanResize reports whether the Pod's node can: it then reports the resources of containers that run. Where
// none runs it is taken to.
func nodeCanResize(pod *corev1.Pod) bool {
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.State.Running != nil {
			return s.Resources != nil
		}
	}
	return true
}

// resizePod judges the Pod's own resources, and puts the old processor and memory back into rest.
func resizePod(l *fielderrors.List, rest, old *corev1.PodSpec) {
	at := specPath.Child("resources")
	if old.Resources != nil {
		if rest.Resources == nil {
			l.Forbidden(at, "pod-level resources cannot be removed")
			return
		}
		if removed(rest.Resources.Requests, old.Resources.Requests) {
			l.Forbidden(at.Child("requests"), "pod-level resource requests cannot be removed")
		}
		if removed(rest.Resources.Limits, old.Resources.Limits) {
			l.Forbidden(at.Child("limits"), "pod-level resource limits cannot be removed")
		}
	}
	if rest.Resources != nil {
		was := old.Resources
		if was == nil {
			was = &corev1.ResourceRequirements{}
		}
		putBack(rest.Resources, was)
		if old.Resources == nil && len(rest.Resources.Requests)+len(rest.Resources.Limits)+len(rest.Resources.Claims) == 0 {
			rest.Resources = nil
		}
	}
	if !apiequality.Semantic.DeepEqual(rest.Resources, old.Resources) {
		l.Forbidden(specPath, "only cpu and memory resources are mutable at pod-level")
	}
}

// sameContainers wants the containers to be the same ones in the same order. It reports whether they are.
func sameContainers(l *fielderrors.List, s, old *corev1.PodSpec) bool {
	before := len(*l)
	for _, list := range []struct {
		name     string
		now, was []corev1.Container
	}{{"containers", s.Containers, old.Containers}, {"initContainers", s.InitContainers, old.InitContainers}} {
		at := specPath.Child(list.name)
		if len(list.now) != len(list.was) {
			l.Forbidden(at, list.name+" may not be added or removed on resize")
			continue
		}
		for i := range list.was {
			if list.now[i].Name != list.was[i].Name {
				l.Forbidden(at.Index(i).Child("name"), list.name+" may not be renamed or reordered on resize")
			}
		}
	}
	return len(*l) == before
}

// keptResources wants no resource to be taken out altogether.
func keptResources(l *fielderrors.List, now, was []corev1.Container, at *field.Path) {
	for i := range was {
		path := at.Index(i).Child("resources")
		if removed(now[i].Resources.Requests, was[i].Resources.Requests) {
			l.Forbidden(path.Child("requests"), "resource requests cannot be removed")
		}
		if removed(now[i].Resources.Limits, was[i].Resources.Limits) {
			l.Forbidden(path.Child("limits"), "resource limits cannot be removed")
		}
	}
}

func resizeContainers(l *fielderrors.List, rest, old *corev1.PodSpec) {
	for i := range rest.Containers {
		putBack(&rest.Containers[i].Resources, &old.Containers[i].Resources)
		if !apiequality.Semantic.DeepEqual(rest.Containers[i], old.Containers[i]) {
			l.Forbidden(specPath, "only cpu and memory resources are mutable")
		}
	}
}

func resizeInitContainers(l *fielderrors.List, rest, old *corev1.PodSpec) {
	for i := range rest.InitContainers {
		c, at := &rest.InitContainers[i], specPath.Child("initContainers").Index(i)
		changed := !apiequality.Semantic.DeepEqual(*c, old.InitContainers[i])
		putBack(&c.Resources, &old.InitContainers[i].Resources)
		if !apiequality.Semantic.DeepEqual(*c, old.InitContainers[i]) {
			l.Forbidden(at, "only cpu and memory resources for init or sidecar containers are mutable")
		}
		if !changed || podutil.IsSidecar(c) {
			continue
		}
		for _, p := range c.ResizePolicy {
			if p.RestartPolicy == corev1.RestartContainer {
				l.Forbidden(at, "non-sidecar init containers with a resize policy of RestartContainer cannot be resized")
			}
		}
	}
}

// putBack gives r the processor and memory of was.
func putBack(r, was *corev1.ResourceRequirements) {
	putBackList(&r.Requests, was.Requests)
	putBackList(&r.Limits, was.Limits)
}

func putBackList(list *corev1.ResourceList, was corev1.ResourceList) {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		delete(*list, name)
		if q, ok := was[name]; ok {
			if *list == nil {
				*list = corev1.ResourceList{}
			}
			(*list)[name] = q
		}
	}
}

// removed reports whether a resource that was in a list is no longer there.
func removed(now, was corev1.ResourceList) bool {
	for name := range was {
		if _, kept := now[name]; !kept {
			return true
		}
	}
	return false
}
