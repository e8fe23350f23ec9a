package statefulset

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// sized returns a view of a set of n members with a rolling update, whose current revision is old and newest is new.
func sized(n int32, pods []*corev1.Pod, change ...func(*appsv1.StatefulSet)) *view {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "ns", UID: "s"}}
	set.Spec.Replicas, set.Spec.Template.Labels = &n, map[string]string{"app": "db"}
	set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
		RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{}}
	for _, f := range change {
		f(set)
	}
	return &view{set: set, current: set, next: set, currentRevision: "old", nextRevision: "new", pods: pods, now: now}
}

func parallel(set *appsv1.StatefulSet) { set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }

func startAt(n int32) func(*appsv1.StatefulSet) {
	return func(set *appsv1.StatefulSet) { set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: n} }
}

func partition(n int32) func(*appsv1.StatefulSet) {
	return func(set *appsv1.StatefulSet) { set.Spec.UpdateStrategy.RollingUpdate.Partition = &n }
}

func unavailable(n string) func(*appsv1.StatefulSet) {
	return func(set *appsv1.StatefulSet) {
		set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.Parse(n))
	}
}

// members returns Pods from words like «3:old:ready».
func members(words string) []*corev1.Pod {
	var out []*corev1.Pod
	for word := range strings.FieldsSeq(words) {
		part := strings.Split(word, ":")
		var n int
		fmt.Sscan(part[0], &n)
		state := part[2]
		if state == "succeeded" {
			state = "failed"
		}
		p := newPod(n, part[1], state)
		if part[2] == "succeeded" {
			p.Status.Phase = corev1.PodSucceeded
		}
		out = append(out, p)
	}
	return out
}

// steps returns what a decision does, as «+5:new» for a creation at a revision and «-3» for a deletion.
func steps(d decision) string {
	var out []string
	for _, phase := range d.phases {
		for _, a := range phase {
			n := ordinal("db", a.pod.Name)
			switch a.verb {
			case create:
				out = append(out, fmt.Sprintf("+%d:%s", n, revisionOf(a.pod)))
			case remove:
				out = append(out, fmt.Sprintf("-%d", n))
			default:
				out = append(out, fmt.Sprintf("~%d", n))
			}
		}
	}
	return strings.Join(out, " ")
}

func TestPoliciesDecide(t *testing.T) {
	for _, tt := range []struct {
		name   string
		n      int32
		change []func(*appsv1.StatefulSet)
		pods   string
		want   string
	}{
		{"ordinals begin where they are told to", 2, []func(*appsv1.StatefulSet){startAt(5)}, "", "+5:new"},
		{"and go on in order", 2, []func(*appsv1.StatefulSet){startAt(5)}, "5:new:ready", "+6:new"},
		{"all at once", 2, []func(*appsv1.StatefulSet){startAt(5), parallel}, "", "+5:new +6:new"},
		{"a higher start first makes the new ones, then removes those below", 2, []func(*appsv1.StatefulSet){startAt(1)}, "0:new:ready 1:new:ready", "+2:new"},
		{"one below the start goes last", 2, []func(*appsv1.StatefulSet){startAt(1)}, "0:new:ready 1:new:ready 2:new:ready 4:new:ready", "-4"},
		{"and goes", 2, []func(*appsv1.StatefulSet){startAt(1)}, "0:new:ready 1:new:ready 2:new:ready", "-0"},
		{"the partition counts from the start", 4, []func(*appsv1.StatefulSet){startAt(5), partition(2)}, "5:old:ready 6:old:ready 7:old:ready 8:new:ready", "-7"},
		{"below the partition the current revision comes back", 4, []func(*appsv1.StatefulSet){startAt(5), partition(2), parallel}, "7:new:ready 8:new:ready", "+5:old +6:old"},
		{"a partition beyond the end updates none", 2, []func(*appsv1.StatefulSet){partition(9)}, "0:old:ready 1:old:ready", ""},
		{"without a rolling update's fields the current revision comes back up to the current number", 3,
			[]func(*appsv1.StatefulSet){parallel, func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.RollingUpdate = nil; s.Status.CurrentReplicas = 1 }},
			"", "+0:old +1:new +2:new"},

		{"one at a time", 4, nil, "0:old:ready 1:old:ready 2:old:ready 3:old:ready", "-3"},
		{"not while one is going", 4, nil, "0:old:ready 1:old:ready 2:old:ready 3:old:going", ""},
		{"two at a time", 4, []func(*appsv1.StatefulSet){unavailable("2")}, "0:old:ready 1:old:ready 2:old:ready 3:old:ready", "-3 -2"},
		{"half of them", 5, []func(*appsv1.StatefulSet){unavailable("50%")}, "0:old:ready 1:old:ready 2:old:ready 3:old:ready 4:old:ready", "-4 -3"},
		{"a percentage that comes to nothing is one", 3, []func(*appsv1.StatefulSet){unavailable("10%")}, "0:old:ready 1:old:ready 2:old:ready", "-2"},
		{"in order, one that is not there holds the update up", 4, []func(*appsv1.StatefulSet){unavailable("2")}, "0:old:ready 1:old:ready 2:old:ready", "+3:new"},
		{"at once, one that is going counts", 4, []func(*appsv1.StatefulSet){unavailable("2"), parallel}, "0:old:ready 1:old:ready 2:old:ready 3:old:going", "-2"},
		{"at once, broken ones go beyond the limit", 4, []func(*appsv1.StatefulSet){parallel}, "0:old:ready 1:old:pending 2:old:pending 3:old:ready", "-2 -1"},
		{"at once, a broken new one uses the limit up", 4, []func(*appsv1.StatefulSet){parallel}, "0:old:ready 1:old:ready 2:old:ready 3:new:pending", ""},
		{"the partition protects broken ones", 3, []func(*appsv1.StatefulSet){parallel, partition(1)}, "0:old:pending 1:old:ready 2:old:ready", ""},

		{"in order, a broken roll-out stands still: the template is mended, the Pod is not touched", 3, nil, "0:old:ready 1:old:ready 2:broken:pending", ""},
		{"until it is deleted by hand", 3, nil, "0:old:ready 1:old:ready 2:broken:going", ""},
		{"then the mended template comes up", 3, nil, "0:old:ready 1:old:ready", "+2:new"},
		{"and the roll-out goes on", 3, nil, "0:old:ready 1:old:ready 2:new:ready", "-1"},
		{"at once, the mended template replaces broken ones", 3, []func(*appsv1.StatefulSet){parallel}, "0:broken:pending 1:broken:pending 2:broken:pending", "-2 -1 -0"},

		{"a failed one is made again", 2, nil, "0:new:failed 1:new:ready", "-0"},
		{"so is one that succeeded", 2, nil, "0:new:succeeded 1:new:ready", "-0"},
		{"ended ones of all ordinals at once", 3, []func(*appsv1.StatefulSet){parallel}, "0:new:succeeded 1:new:failed 2:new:ready", "-0 -1"},
		{"scaling down waits for a member that is not ready", 1, nil, "0:new:pending 1:new:ready 2:new:ready", ""},
		{"scaling down in order begins with the highest, although it is broken", 1, nil, "0:new:ready 1:new:ready 2:new:pending", "-2"},
		{"scaling down stops at a broken one above another", 1, nil, "0:new:ready 1:new:pending 2:new:pending", ""},
		{"scaling down waits for the one that is going", 1, nil, "0:new:ready 1:new:ready 2:new:going", ""},
		{"scaling down at once", 1, []func(*appsv1.StatefulSet){parallel}, "0:new:ready 1:new:pending 2:new:ready 3:new:going", "-2 -1"},
		{"to none", 0, nil, "0:new:ready 1:new:ready", "-1"},
		{"a set that is deleted does nothing", 3, []func(*appsv1.StatefulSet){func(s *appsv1.StatefulSet) { s.DeletionTimestamp = &metav1.Time{Time: now} }}, "0:new:failed", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := steps(sized(tt.n, members(tt.pods), tt.change...).decide()); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		name    string
		n       int32
		change  []func(*appsv1.StatefulSet)
		pods    string
		want    string // replicas, ready, available, current, updated
		current string
	}{
		{"under way", 4, nil, "0:old:ready 1:old:ready 2:new:ready 3:new:pending", "4 3 3 2 2", "old"},
		{"complete", 2, nil, "0:new:ready 1:new:ready", "2 2 2 2 2", "new"},
		{"complete but one is not ready", 2, nil, "0:new:ready 1:new:pending", "2 1 1 0 2", "old"},
		{"complete but one is left over", 1, nil, "0:new:ready 1:new:ready", "2 2 2 0 2", "old"},
		{"one that is going is no current one", 2, nil, "0:old:ready 1:old:going", "2 1 1 1 0", "old"},
		{"ready is not available", 1, []func(*appsv1.StatefulSet){func(s *appsv1.StatefulSet) { s.Spec.MinReadySeconds = 90 }}, "0:new:ready", "1 1 0 1 1", "new"},
		{"what is taken down is not current any more", 2, nil, "0:old:ready 1:old:ready", "2 2 2 1 0", "old"},
		{"members of neither revision do not make it negative", 3, []func(*appsv1.StatefulSet){parallel}, "0:broken:pending 1:broken:pending 2:broken:pending", "3 0 0 0 0", "old"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := sized(tt.n, members(tt.pods), tt.change...)
			v.collisions = 3
			s := v.decide().status
			got := fmt.Sprint(s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas)
			if got != tt.want || s.CurrentRevision != tt.current || s.UpdateRevision != "new" || ptr.Deref(s.CollisionCount, 0) != 3 {
				t.Errorf("%s at %s to %s, %v collisions; want %s at %s to new, 3 collisions", got, s.CurrentRevision, s.UpdateRevision, *s.CollisionCount, tt.want, tt.current)
			}
		})
	}
}

func TestRetentionPolicyOwnsClaims(t *testing.T) {
	const keep, remove = appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	for _, tt := range []struct {
		name                    string
		whenDeleted, whenScaled appsv1.PersistentVolumeClaimRetentionPolicyType
		scaledAway              bool
		have                    string // owners before: set, pod, other, controller, oldset, oldpod
		want                    string
		differ                  bool
	}{
		{"kept", keep, keep, false, "", "", false},
		{"kept, although scaled away", keep, keep, true, "", "", false},
		{"the policy became to keep", keep, keep, false, "set", "", true},
		{"scaled up again after a removal by scale", keep, remove, false, "pod", "", true},
		{"with the set", remove, keep, false, "", "set", true},
		{"with the set, already", remove, keep, false, "set", "set", false},
		{"with the set, although scaled away", remove, keep, true, "set", "set", false},
		{"with the scale", keep, remove, true, "", "pod", true},
		{"with the scale, wanted", keep, remove, false, "", "", false},
		{"with either, wanted", remove, remove, false, "", "set", true},
		{"with either, scaled away", remove, remove, true, "set", "pod", true},
		{"with either, scaled up again", remove, remove, false, "pod", "set", true},
		{"other owners stay", remove, keep, false, "other", "other set", true},
		{"one that another controls is left to it", remove, remove, true, "controller", "controller", false},
		{"one of an earlier set of the name is left to the garbage collector", remove, keep, false, "oldset", "oldset", false},
		{"one of an earlier Pod of the name is left to the garbage collector", keep, remove, true, "oldpod", "oldpod", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			if tt.scaledAway {
				n = 2
			}
			pod := newPod(n, "new", "ready")
			pod.UID = "p"
			set := sized(2, nil, func(s *appsv1.StatefulSet) {
				s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: tt.whenDeleted, WhenScaled: tt.whenScaled}
			}).set
			earlierSet, earlierPod := set.DeepCopy(), pod.DeepCopy()
			earlierSet.UID, earlierPod.UID = "earlier", "earlier"
			other := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}
			controller := other
			controller.Controller = ptr.To(true)
			owners := map[string]metav1.OwnerReference{
				"set": *metav1.NewControllerRef(set, kind), "pod": *metav1.NewControllerRef(pod, podKind), "other": other, "controller": controller,
				"oldset": *metav1.NewControllerRef(earlierSet, kind), "oldpod": *metav1.NewControllerRef(earlierPod, podKind),
			}
			claim := &corev1.PersistentVolumeClaim{}
			for word := range strings.FieldsSeq(tt.have) {
				claim.OwnerReferences = append(claim.OwnerReferences, owners[word])
			}
			got, differ := claimOwners(claim, set, pod)
			var words []string
			for _, r := range got {
				for word, o := range owners {
					if o.UID == r.UID && o.Kind == r.Kind && ptr.Deref(o.Controller, false) == ptr.Deref(r.Controller, false) {
						words = append(words, word)
					}
				}
			}
			slices.Sort(words)
			if strings.Join(words, " ") != tt.want || differ != tt.differ {
				t.Errorf("owners %v, differ %v; want %q, %v", words, differ, tt.want, tt.differ)
			}
		})
	}
}
