package statefulset

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/podutil"
)

// verb is what is done to a member.
type verb int

const (
	create    verb = iota
	remove         // delete the Pod
	update         // give the Pod its identity and its volumes again
	addClaims      // create claims that are missing, and give all of them the owners that the policy wants
	ownClaims      // give the claims the owners that the policy wants
)

// action is one step. It is carried out with set, which is the set as it was at the member's revision.
type action struct {
	verb verb
	pod  *corev1.Pod
	set  *appsv1.StatefulSet
}

// view is what one round sees.
type view struct {
	set *appsv1.StatefulSet
	// current and next are the set at its current and at its newest revision.
	current, next                 *appsv1.StatefulSet
	currentRevision, nextRevision string
	collisions                    int32
	pods                          []*corev1.Pod // its members
	claims                        map[string]*corev1.PersistentVolumeClaim
	now                           time.Time
}

// decision is what one round does: the phases one after the other, the actions of a phase in growing batches, until one
// fails; then the status is written.
type decision struct {
	phases [][]action
	status appsv1.StatefulSetStatus
	again  time.Duration
}

// add appends a phase.
func (d *decision) add(actions []action) {
	if len(actions) > 0 {
		d.phases = append(d.phases, actions)
	}
}

// decide decides what is done next. With the policy OrderedReady it is one step at a time, in order: members come up from
// the lowest ordinal and go down from the highest, and each waits for those before it to be available.
func (v *view) decide() decision {
	d := decision{status: v.status()}
	d.again = v.untilAvailable()
	if v.set.DeletionTimestamp != nil {
		return d
	}
	members, condemned := v.sort()
	ordered := v.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	var steps []action
	for _, p := range members {
		actions, wait := v.keep(p, ordered)
		steps = append(steps, actions...)
		if wait && ordered {
			d.add(steps)
			return v.completed(d)
		}
	}
	d.add(steps)
	var owned []action
	for _, p := range condemned {
		if v.claimsDiffer(p) {
			owned = append(owned, action{ownClaims, p, v.next})
		}
	}
	d.add(owned)
	steps, wait := v.condemn(members, condemned, ordered)
	d.add(steps)
	if wait && ordered {
		return v.completed(d)
	}
	if v.set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType {
		steps = v.roll(members, ordered)
		// Members of a revision between the current and the newest one go, too, and were not counted.
		d.status.CurrentReplicas = max(0, d.status.CurrentReplicas-int32(len(steps)))
		d.add(steps)
	}
	return v.completed(d)
}

// completed makes the newest revision the current one when every member has it and is ready.
func (v *view) completed(d decision) decision {
	want := int32(wanted(v.set))
	if s := &d.status; s.UpdatedReplicas == want && s.ReadyReplicas == want && s.Replicas == want {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
	return d
}

// sort returns the members that the set wants, in order, with new ones in the gaps, and those that it does not want, the
// highest ordinal first.
func (v *view) sort() (members, condemned []*corev1.Pod) {
	start := first(v.set)
	members = make([]*corev1.Pod, wanted(v.set))
	for _, p := range v.pods {
		switch n := ordinal(v.set.Name, p.Name); {
		case inRange(v.set, n):
			members[n-start] = p
		case n >= 0:
			condemned = append(condemned, p)
		}
	}
	for i, p := range members {
		if p == nil {
			members[i] = v.newMember(start + i)
		}
	}
	slices.SortFunc(condemned, func(a, b *corev1.Pod) int { return ordinal(v.set.Name, b.Name) - ordinal(v.set.Name, a.Name) })
	return members, condemned
}

// newMember returns a member to be created: of the current revision below the partition, of the newest one above it.
func (v *view) newMember(n int) *corev1.Pod {
	owner := podcontrol.Owner{Object: v.set, Kind: kind, Events: v.set}
	u := v.set.Spec.UpdateStrategy
	if u.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		below := first(v.set) + int(v.set.Status.CurrentReplicas)
		if u.RollingUpdate != nil {
			below = first(v.set) + v.partition()
		}
		if n < below {
			return newMember(owner, v.current, v.currentRevision, n)
		}
	}
	return newMember(owner, v.next, v.nextRevision, n)
}

func (v *view) partition() int {
	if u := v.set.Spec.UpdateStrategy.RollingUpdate; u != nil {
		return int(ptr.Deref(u.Partition, 0))
	}
	return 0
}

// keep returns what a wanted member needs, and whether the members after it have to wait for it.
func (v *view) keep(p *corev1.Pod, ordered bool) (actions []action, wait bool) {
	switch {
	case podutil.Ended(p):
		// It is made again, whatever its exit code, in the round after it is gone.
		if p.DeletionTimestamp == nil {
			actions = []action{{remove, p, v.set}}
		}
		return actions, true
	case !created(p) && v.claimIsStale(p):
		return nil, true
	case !created(p):
		return []action{{create, p, v.set}}, true
	}
	if p.Status.Phase == corev1.PodPending && v.claimsMissing(p) {
		actions = append(actions, action{addClaims, p, v.set})
	}
	available, _ := podcontrol.Available(p, v.minReady(), v.now)
	if ordered && (p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning || !available) {
		return actions, true
	}
	n := ordinal(v.set.Name, p.Name)
	identified := p.Labels[appsv1.StatefulSetPodNameLabel] == p.Name
	switch {
	case !identified || !mountsClaims(v.set, p, n):
		actions = append(actions, action{update, p, v.next})
	case v.claimsDiffer(p):
		actions = append(actions, action{ownClaims, p, v.next})
	}
	return actions, false
}

// condemn returns the deletions of members that are not wanted any more. In order, one goes at a time, and not while
// another member is unavailable, except when it is that one.
func (v *view) condemn(members, condemned []*corev1.Pod, ordered bool) (actions []action, wait bool) {
	if !ordered {
		for _, p := range condemned {
			if p.DeletionTimestamp == nil {
				actions = append(actions, action{remove, p, v.set})
			}
		}
		return actions, len(actions) > 0
	}
	if len(condemned) == 0 {
		return nil, false
	}
	p := condemned[0]
	if p.DeletionTimestamp != nil {
		return nil, true
	}
	available, _ := podcontrol.Available(p, v.minReady(), v.now)
	if (p.Status.Phase != corev1.PodRunning || !available) && p != v.firstUnavailable(members, condemned) {
		return nil, true
	}
	return []action{{remove, p, v.set}}, true
}

// firstUnavailable returns the unavailable member of the lowest ordinal; the wanted ones come first.
func (v *view) firstUnavailable(members, condemned []*corev1.Pod) *corev1.Pod {
	for _, p := range members {
		if v.unavailable(p) {
			return p
		}
	}
	for i := len(condemned) - 1; i >= 0; i-- {
		if v.unavailable(condemned[i]) {
			return condemned[i]
		}
	}
	return nil
}

func (v *view) unavailable(p *corev1.Pod) bool {
	ok, _ := podcontrol.Available(p, v.minReady(), v.now)
	return !ok || p.DeletionTimestamp != nil
}

// roll returns the deletions by which members come to the newest revision: from the highest ordinal down to the
// partition, so that at most maxUnavailable are unavailable. With the policy Parallel the members that are unavailable
// already go first and do not count (KEP-961).
func (v *view) roll(members []*corev1.Pod, ordered bool) []action {
	unavailable := 0
	for _, p := range members {
		if v.unavailable(p) {
			unavailable++
		}
	}
	var broken, whole []action
	for i := len(members) - 1; i >= v.partition(); i-- {
		p := members[i]
		switch {
		case revisionOf(p) == v.nextRevision || p.DeletionTimestamp != nil || !created(p):
		case ordered || !v.unavailable(p):
			whole = append(whole, action{remove, p, v.set})
		default:
			broken = append(broken, action{remove, p, v.set})
		}
	}
	budget := max(0, v.maxUnavailable()-unavailable)
	return append(broken, whole[:min(budget, len(whole))]...)
}

func (v *view) maxUnavailable() int {
	u := v.set.Spec.UpdateStrategy.RollingUpdate
	if u == nil || u.MaxUnavailable == nil {
		return 1
	}
	n, _ := intstr.GetScaledValueFromIntOrPercent(u.MaxUnavailable, wanted(v.set), false) // validation lets nothing else in
	return max(1, n)
}

func (v *view) minReady() time.Duration {
	return time.Duration(v.set.Spec.MinReadySeconds) * time.Second
}

// status counts the members that exist.
func (v *view) status() appsv1.StatefulSetStatus {
	s := appsv1.StatefulSetStatus{
		ObservedGeneration: v.set.Generation, CurrentRevision: v.currentRevision, UpdateRevision: v.nextRevision,
		CollisionCount: &v.collisions, Conditions: v.set.Status.Conditions,
	}
	for _, p := range v.pods {
		if ordinal(v.set.Name, p.Name) < 0 || !created(p) {
			continue
		}
		s.Replicas++
		if _, ready := podcontrol.ReadySince(p); ready && p.Status.Phase == corev1.PodRunning {
			s.ReadyReplicas++
			if ok, _ := podcontrol.Available(p, v.minReady(), v.now); ok {
				s.AvailableReplicas++
			}
		}
		if p.DeletionTimestamp != nil {
			continue
		}
		if revisionOf(p) == v.currentRevision {
			s.CurrentReplicas++
		}
		if revisionOf(p) == v.nextRevision {
			s.UpdatedReplicas++
		}
	}
	return s
}

// untilAvailable returns the time until the next ready member becomes available, 0 when none does.
func (v *view) untilAvailable() time.Duration {
	soonest := time.Duration(0)
	for _, p := range v.pods {
		if _, left := podcontrol.Available(p, v.minReady(), v.now); left > 0 && (soonest == 0 || left < soonest) {
			soonest = left
		}
	}
	return soonest
}

func (v *view) claimsMissing(p *corev1.Pod) bool {
	return slices.ContainsFunc(newClaims(v.set, ordinal(v.set.Name, p.Name)), func(c *corev1.PersistentVolumeClaim) bool { return v.claims[c.Name] == nil })
}

// claimsDiffer reports whether a claim of the member has other owners than the policy wants.
func (v *view) claimsDiffer(p *corev1.Pod) bool {
	return slices.ContainsFunc(newClaims(v.next, ordinal(v.set.Name, p.Name)), func(c *corev1.PersistentVolumeClaim) bool {
		have := v.claims[c.Name]
		if have == nil {
			return false
		}
		_, differ := claimOwners(have, v.next, p)
		return differ
	})
}

// claimIsStale reports whether a claim of a member to be created is about to go with an earlier Pod of the same name.
func (v *view) claimIsStale(p *corev1.Pod) bool {
	if !retentionOf(v.set).deleteWhenScaled {
		return false
	}
	return slices.ContainsFunc(newClaims(v.set, ordinal(v.set.Name, p.Name)), func(c *corev1.PersistentVolumeClaim) bool {
		return v.claims[c.Name] != nil && stale(v.claims[c.Name], p, podKind)
	})
}
