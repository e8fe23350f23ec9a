package statefulset

import (
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var podKind = corev1.SchemeGroupVersion.WithKind("Pod")

// claimName returns the name of the claim that a template stands for in a member.
func claimName(set *appsv1.StatefulSet, template string, ordinal int) string {
	return template + "-" + set.Name + "-" + strconv.Itoa(ordinal)
}

// newClaims returns the claims of a member. They carry the labels by which the set selects.
func newClaims(set *appsv1.StatefulSet, ordinal int) []*corev1.PersistentVolumeClaim {
	var out []*corev1.PersistentVolumeClaim
	for i := range set.Spec.VolumeClaimTemplates {
		c := set.Spec.VolumeClaimTemplates[i].DeepCopy()
		c.Name, c.Namespace = claimName(set, c.Name, ordinal), set.Namespace
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		if set.Spec.Selector != nil {
			for key, value := range set.Spec.Selector.MatchLabels {
				c.Labels[key] = value
			}
		}
		out = append(out, c)
	}
	return out
}

// retention is what becomes of claims, see spec.persistentVolumeClaimRetentionPolicy.
type retention struct{ deleteWithSet, deleteWhenScaled bool }

func retentionOf(set *appsv1.StatefulSet) retention {
	p := set.Spec.PersistentVolumeClaimRetentionPolicy
	if p == nil {
		return retention{}
	}
	return retention{
		deleteWithSet:    p.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
		deleteWhenScaled: p.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
	}
}

// names reports whether the reference is to an object of this name and kind, whatever its UID.
func names(ref metav1.OwnerReference, o metav1.Object, kind schema.GroupVersionKind) bool {
	return ref.APIVersion == kind.GroupVersion().String() && ref.Kind == kind.Kind && ref.Name == o.GetName()
}

// stale reports whether the claim is owned by an earlier object of the same name, whose deletion the garbage collector
// has not finished.
func stale(claim *corev1.PersistentVolumeClaim, o metav1.Object, kind schema.GroupVersionKind) bool {
	return slices.ContainsFunc(claim.OwnerReferences, func(r metav1.OwnerReference) bool { return names(r, o, kind) && r.UID != o.GetUID() })
}

// foreign reports whether a policy that deletes claims meets a claim that another object controls.
func foreign(claim *corev1.PersistentVolumeClaim, set *appsv1.StatefulSet, pod *corev1.Pod) bool {
	if retentionOf(set) == (retention{}) {
		return false
	}
	return slices.ContainsFunc(claim.OwnerReferences, func(r metav1.OwnerReference) bool {
		return r.Controller != nil && *r.Controller && r.UID != set.UID && r.UID != pod.UID
	})
}

// claimOwners returns the owners that the retention policy wants for a claim of the member, and whether they differ from
// those it has. By them the garbage collector deletes the claim: with the set, or with a member that was scaled away.
// A claim with a stale owner is left alone; one that another object controls belongs to nobody else.
func claimOwners(claim *corev1.PersistentVolumeClaim, set *appsv1.StatefulSet, pod *corev1.Pod) ([]metav1.OwnerReference, bool) {
	if stale(claim, set, kind) || stale(claim, pod, podKind) {
		return claim.OwnerReferences, false
	}
	want := slices.DeleteFunc(slices.Clone(claim.OwnerReferences), func(r metav1.OwnerReference) bool {
		return names(r, set, kind) || names(r, pod, podKind)
	})
	if !foreign(claim, set, pod) {
		policy := retentionOf(set)
		scaledAway := !inRange(set, ordinal(set.Name, pod.Name))
		switch {
		case policy.deleteWhenScaled && scaledAway:
			want = append(want, *metav1.NewControllerRef(pod, podKind))
		case policy.deleteWithSet:
			want = append(want, *metav1.NewControllerRef(set, kind))
		}
	}
	same := len(want) == len(claim.OwnerReferences)
	for _, r := range want {
		same = same && slices.ContainsFunc(claim.OwnerReferences, func(have metav1.OwnerReference) bool {
			// Whether a deletion of the owner waits for the claim makes no difference to the policy.
			have.BlockOwnerDeletion = r.BlockOwnerDeletion
			return equality.Semantic.DeepEqual(have, r)
		})
	}
	return want, !same
}
