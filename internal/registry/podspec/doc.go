// Package podspec says what a PodSpec means on its way in: what is filled in where the user said nothing, what
// is taken out because this version does not have it, what is refused, and what is warned about.
//
// It covers Pods and the Pod templates of other kinds. Everything here is a function of the object alone; the
// rules, their order and their words are those of Kubernetes v1.37 with its feature gates at their defaults.
// What v1.37 drops because its gate is off (see Prune) is not judged.
package podspec
