package statefulset

import (
	"regexp"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
)

// podName is a member's name: the set's name and an ordinal.
var podName = regexp.MustCompile("^(.*)-([0-9]+)$")

// ordinal returns the ordinal of a member of the set, -1 for a Pod whose name is no member's.
func ordinal(set, pod string) int {
	m := podName.FindStringSubmatch(pod)
	if m == nil || m[1] != set {
		return -1
	}
	n, err := strconv.ParseInt(m[2], 10, 32)
	if err != nil || memberName(set, int(n)) != pod {
		return -1
	}
	return int(n)
}

func memberName(set string, ordinal int) string { return set + "-" + strconv.Itoa(ordinal) }

// first returns the lowest ordinal of the set.
func first(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals != nil {
		return int(set.Spec.Ordinals.Start)
	}
	return 0
}

func wanted(set *appsv1.StatefulSet) int { return int(ptr.Deref(set.Spec.Replicas, 1)) }

// inRange reports whether the set wants a member of this ordinal.
func inRange(set *appsv1.StatefulSet, ordinal int) bool {
	return ordinal >= first(set) && ordinal < first(set)+wanted(set)
}

func revisionOf(p *corev1.Pod) string { return p.Labels[appsv1.StatefulSetRevisionLabel] }

// created reports whether the API server has the Pod; one that is to be created has no phase yet.
func created(p *corev1.Pod) bool { return p.Status.Phase != "" }

// newMember returns the member of an ordinal, made of the set's template at a revision.
func newMember(owner podcontrol.Owner, set *appsv1.StatefulSet, revision string, ordinal int) *corev1.Pod {
	p := podcontrol.FromTemplate(owner, &set.Spec.Template)
	p.Name = memberName(set.Name, ordinal)
	identify(set, p, ordinal)
	p.Labels[appsv1.StatefulSetRevisionLabel] = revision
	p.Spec.Hostname, p.Spec.Subdomain = p.Name, set.Spec.ServiceName
	mountClaims(set, p, ordinal)
	return p
}

// identify gives a Pod the labels of its place in the set.
func identify(set *appsv1.StatefulSet, p *corev1.Pod, ordinal int) {
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[appsv1.StatefulSetPodNameLabel] = memberName(set.Name, ordinal)
	p.Labels[appsv1.PodIndexLabel] = strconv.Itoa(ordinal)
}

// mountClaims makes the Pod's volumes those of the set's claim templates; other volumes stay.
func mountClaims(set *appsv1.StatefulSet, p *corev1.Pod, ordinal int) {
	byClaim := map[string]bool{}
	var volumes []corev1.Volume
	for i := range set.Spec.VolumeClaimTemplates {
		t := &set.Spec.VolumeClaimTemplates[i]
		byClaim[t.Name] = true
		volumes = append(volumes, corev1.Volume{Name: t.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, t.Name, ordinal)},
		}})
	}
	for _, v := range p.Spec.Volumes {
		if !byClaim[v.Name] {
			volumes = append(volumes, v)
		}
	}
	p.Spec.Volumes = volumes
}

// mountsClaims reports whether the Pod has a volume for each of the set's claim templates.
func mountsClaims(set *appsv1.StatefulSet, p *corev1.Pod, ordinal int) bool {
	have := map[string]string{}
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			have[v.Name] = v.PersistentVolumeClaim.ClaimName
		}
	}
	for i := range set.Spec.VolumeClaimTemplates {
		t := set.Spec.VolumeClaimTemplates[i].Name
		if have[t] != claimName(set, t, ordinal) {
			return false
		}
	}
	return true
}
