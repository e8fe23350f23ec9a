package podspec

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Containers walks over every container of a Pod: init containers, then containers, then ephemeral ones.
func Containers(s *corev1.PodSpec) iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for _, c := range containersAt(s, nil) {
			if !yield(c) {
				return
			}
		}
	}
}

// containersAt is Containers with the place of each below the path of the spec.
func containersAt(s *corev1.PodSpec, path *field.Path) iter.Seq2[*field.Path, *corev1.Container] {
	return func(yield func(*field.Path, *corev1.Container) bool) {
		at := path.Child("initContainers")
		for i := range s.InitContainers {
			if !yield(at.Index(i), &s.InitContainers[i]) {
				return
			}
		}
		at = path.Child("containers")
		for i := range s.Containers {
			if !yield(at.Index(i), &s.Containers[i]) {
				return
			}
		}
		at = path.Child("ephemeralContainers")
		for i := range s.EphemeralContainers {
			if !yield(at.Index(i), AsContainer(&s.EphemeralContainers[i])) {
				return
			}
		}
	}
}

// AsContainer shows an ephemeral container as the container it shares its fields with.
func AsContainer(c *corev1.EphemeralContainer) *corev1.Container {
	return (*corev1.Container)(&c.EphemeralContainerCommon)
}

// HasContainer reports whether a Pod has a container of any sort with this name.
func HasContainer(s *corev1.PodSpec, name string) bool {
	for c := range Containers(s) {
		if c.Name == name {
			return true
		}
	}
	return false
}

// ContainerNames returns the names of all containers, in the order of Containers.
func ContainerNames(s *corev1.PodSpec) (names []string) {
	for c := range Containers(s) {
		names = append(names, c.Name)
	}
	return names
}
