package deployment

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
)

// replicaSet is a ReplicaSet in the course of one round: a copy that decisions change.
type replicaSet struct {
	*appsv1.ReplicaSet
	was    int32 // spec.replicas as stored, 0 for one to be created
	create bool
	write  bool // the copy differs from what is stored
	remove bool
}

func (rs *replicaSet) want() int32 { return ptr.Deref(rs.Spec.Replicas, 1) }

// rollout is one round over a Deployment: decide changes the copies in it, and the controller then writes what changed.
type rollout struct {
	d    *appsv1.Deployment // a copy whose annotations and status are the result
	now  time.Time
	old  []*replicaSet // every ReplicaSet but next, oldest first
	next *replicaSet   // the one that has the Deployment's template; nil when there is none
	// oldPodsRun reports whether a Pod of an old ReplicaSet has not ended.
	oldPodsRun bool
	// again is the time after which the progress deadline has to be checked, 0 for none.
	again time.Duration
	// rolledBack is set when the round has met a request for a rollback: d differs in its template and its annotations.
	rolledBack *outcome
}

// newRollout sorts the ReplicaSets of the Deployment into the new one and the old ones. The arguments are not changed.
func newRollout(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, now time.Time) *rollout {
	r := &rollout{d: d.DeepCopy(), now: now}
	sorted := slices.Clone(sets)
	slices.SortFunc(sorted, olderFirst)
	for _, rs := range sorted {
		copied := &replicaSet{ReplicaSet: rs.DeepCopy(), was: ptr.Deref(rs.Spec.Replicas, 1)}
		if r.next == nil && sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			r.next = copied
			continue
		}
		r.old = append(r.old, copied)
	}
	return r
}

func olderFirst(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
}

// sameTemplate reports whether two templates are equal but for the label that tells ReplicaSets apart.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	delete(a.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(b.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(a, b)
}

// decide brings the ReplicaSets one round nearer to what the Deployment wants and computes its status.
func (r *rollout) decide() {
	if r.d.DeletionTimestamp != nil {
		r.d.Status = r.status()
		return
	}
	r.notePause()
	revision, back := rollbackTo(r.d)
	switch {
	case r.d.Spec.Paused:
		r.revise(false)
		r.scale()
		r.prune()
		r.d.Status = r.status()
	case back:
		r.rollback(revision)
	case r.scaled():
		r.revise(false)
		r.scale()
		r.d.Status = r.status()
	case r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		r.recreate()
		r.progress()
	default:
		r.revise(true)
		r.roll()
		r.progress()
	}
}

// all returns every ReplicaSet, the old ones first.
func (r *rollout) all() []*replicaSet {
	if r.next == nil {
		return r.old
	}
	return append(slices.Clone(r.old), r.next)
}

func (r *rollout) wanted() int32 { return ptr.Deref(r.d.Spec.Replicas, 1) }

// recreate ends every old Pod before the first new one is made.
func (r *rollout) recreate() {
	r.revise(false)
	ending := false
	for _, rs := range r.old {
		ending = ending || rs.want() > 0
		r.resize(rs, 0)
	}
	if ending || r.oldPodsRun {
		return
	}
	r.revise(true)
	r.resize(r.next, r.wanted())
	r.pruneComplete()
}

// roll moves replicas from the old ReplicaSets to the new one within maxSurge and maxUnavailable.
func (r *rollout) roll() {
	r.resize(r.next, r.newSize())
	r.shrinkOld()
	r.pruneComplete()
}

// newSize returns the size of the new ReplicaSet in a rolling update: as large as the surge allows.
func (r *rollout) newSize() int32 {
	have, want := r.next.want(), r.wanted()
	if have >= want || r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return want
	}
	room := want + maxSurge(r.d) - total(r.all())
	return have + max(0, min(room, want-have))
}

// shrinkOld takes replicas from the old ReplicaSets, first those that are not available, then as many as may be missed.
func (r *rollout) shrinkOld() {
	least := r.wanted() - maxUnavailable(r.d)
	unavailable := r.next.want() - r.next.Status.AvailableReplicas
	spare := total(r.all()) - least - unavailable
	for _, rs := range r.old {
		if spare <= 0 {
			return
		}
		if broken := min(spare, rs.want()-rs.Status.AvailableReplicas); broken > 0 && rs.want() > 0 {
			r.resize(rs, rs.want()-broken)
			spare -= broken
		}
	}
	available := int32(0)
	for _, rs := range r.all() {
		// A status that lags behind a smaller size counts Pods that are about to go.
		available += min(rs.want(), rs.Status.AvailableReplicas)
	}
	for _, rs := range r.old {
		if available <= least {
			return
		}
		n := min(rs.want(), available-least)
		r.resize(rs, rs.want()-n)
		available -= n
	}
}

// scaled reports whether the Deployment's size has changed since its ReplicaSets were sized.
func (r *rollout) scaled() bool {
	for _, rs := range r.all() {
		if rs.want() == 0 {
			continue
		}
		if n, ok := number(rs.Annotations, desiredAnnotation); ok && n != r.wanted() {
			return true
		}
	}
	return false
}

// scale spreads the Deployment's size over its ReplicaSets without rolling anything out.
func (r *rollout) scale() {
	if one := r.activeOrLatest(); one != nil {
		r.resize(one, r.wanted())
		return
	}
	if r.saturated() {
		for _, rs := range r.old {
			r.resize(rs, 0)
		}
		return
	}
	if r.d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		r.spread()
	}
}

// activeOrLatest returns the ReplicaSet to scale when there is no doubt which: the only one with replicas, or, when none
// has any, the new or the youngest one.
func (r *rollout) activeOrLatest() *replicaSet {
	active := withReplicas(r.all())
	switch {
	case len(active) == 1:
		return active[0]
	case len(active) > 1:
		return nil
	case r.next != nil:
		return r.next
	case len(r.old) > 0:
		return r.old[len(r.old)-1]
	}
	return nil
}

// saturated reports whether the new ReplicaSet is all the Deployment wants.
func (r *rollout) saturated() bool {
	if r.next == nil {
		return false
	}
	n, ok := number(r.next.Annotations, desiredAnnotation)
	want := r.wanted()
	return ok && n == want && r.next.want() == want && r.next.Status.AvailableReplicas == want
}

// spread changes the sizes of several ReplicaSets in proportion, so that a roll-out that stands still keeps its risk.
func (r *rollout) spread() {
	active := withReplicas(r.all())
	allowed := int32(0)
	if r.wanted() > 0 {
		allowed = r.wanted() + maxSurge(r.d)
	}
	diff := allowed - total(active)
	// The largest changes first; among equals the youngest when growing, the oldest when shrinking.
	slices.SortStableFunc(active, func(a, b *replicaSet) int {
		age := olderFirst(a.ReplicaSet, b.ReplicaSet)
		if diff > 0 {
			age = -age
		}
		return cmp.Or(cmp.Compare(b.want(), a.want()), age)
	})
	sizes := make([]int32, len(active))
	added := int32(0)
	for i, rs := range active {
		sizes[i] = rs.want()
		if diff == 0 {
			continue
		}
		n := r.proportion(rs, diff-added, diff > 0)
		sizes[i] += n
		added += n
	}
	for i, rs := range active {
		if i == 0 && diff != 0 {
			sizes[i] = max(0, sizes[i]+diff-added)
		}
		r.resize(rs, sizes[i])
	}
}

// proportion returns by how much a ReplicaSet changes when the Deployment does, at most what is left to distribute.
func (r *rollout) proportion(rs *replicaSet, left int32, grow bool) int32 {
	if rs.want() == 0 || left == 0 {
		return 0
	}
	n := -rs.want()
	if r.wanted() > 0 {
		before, ok := number(rs.Annotations, maxAnnotation)
		if !ok || before == 0 {
			before = r.d.Status.Replicas
		}
		if before == 0 {
			return 0
		}
		most := r.wanted() + maxSurge(r.d)
		n = int32(math.Round(float64(rs.want())*float64(most)/float64(before))) - rs.want()
	}
	if grow {
		return min(n, left)
	}
	return max(n, left)
}

// resize sets a ReplicaSet's size, and with it the annotations from which the next change of scale is computed.
func (r *rollout) resize(rs *replicaSet, n int32) {
	if rs.want() == n && !rs.create {
		return
	}
	rs.Spec.Replicas = &n
	r.noteSize(rs)
	rs.write = true
}

// noteSize writes the annotations of the Deployment's size into the ReplicaSet and reports whether they changed.
func (r *rollout) noteSize(rs *replicaSet) bool {
	a := set(&rs.ObjectMeta, desiredAnnotation, strconv.Itoa(int(r.wanted())))
	b := set(&rs.ObjectMeta, maxAnnotation, strconv.Itoa(int(r.wanted()+maxSurge(r.d))))
	return a || b
}

// revise gives the new ReplicaSet, created first when create is set, the Deployment's revision and annotations.
func (r *rollout) revise(create bool) {
	revision := int64(1)
	for _, rs := range r.old {
		if n, err := strconv.ParseInt(rs.Annotations[revisionAnnotation], 10, 64); err == nil {
			revision = max(revision, n+1)
		}
	}
	switch {
	case r.next != nil:
		changed := annotate(&r.next.ObjectMeta, r.d.Annotations, revision, !r.next.create)
		if r.next.Spec.MinReadySeconds != r.d.Spec.MinReadySeconds {
			r.next.Spec.MinReadySeconds, changed = r.d.Spec.MinReadySeconds, true
		}
		r.next.write = r.next.write || changed
		if hasDeadline(r.d) && condition(&r.d.Status, appsv1.DeploymentProgressing) == nil {
			r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "FoundNewReplicaSet", fmt.Sprintf("Found new replica set %q", r.next.Name))
		}
	case create:
		r.next = r.newReplicaSet()
		annotate(&r.next.ObjectMeta, r.d.Annotations, revision, false)
		r.resize(r.next, r.newSize())
		if hasDeadline(r.d) {
			r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "NewReplicaSetCreated", fmt.Sprintf("Created new replica set %q", r.next.Name))
		}
	default:
		return
	}
	set(&r.d.ObjectMeta, revisionAnnotation, r.next.Annotations[revisionAnnotation])
}

// newReplicaSet returns the ReplicaSet of the Deployment's template. Its name is the same each time, so that it is not
// created twice.
func (r *rollout) newReplicaSet() *replicaSet {
	template := r.d.Spec.Template.DeepCopy()
	hash := podcontrol.TemplateHash(template, r.d.Status.CollisionCount)
	template.Labels = with(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey, hash)
	selector := r.d.Spec.Selector.DeepCopy()
	selector.MatchLabels = with(selector.MatchLabels, appsv1.DefaultDeploymentUniqueLabelKey, hash)
	name := r.d.Name
	if most := validation.DNS1123SubdomainMaxLength - len(hash) - 1; len(name) > most {
		name = name[:most]
	}
	return &replicaSet{create: true, write: true, ReplicaSet: &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: name + "-" + hash, Namespace: r.d.Namespace, Labels: with(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey, hash),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r.d, kind)},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr.To[int32](0), MinReadySeconds: r.d.Spec.MinReadySeconds, Selector: selector, Template: *template,
		},
	}}
}

// pruneComplete removes old ReplicaSets once the roll-out is complete.
func (r *rollout) pruneComplete() {
	if st := r.status(); complete(r.d, &st) {
		r.prune()
	}
}

// prune removes the oldest revisions beyond spec.revisionHistoryLimit, but none that has or wants Pods.
func (r *rollout) prune() {
	limit := r.d.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return
	}
	var old []*replicaSet
	for _, rs := range r.old {
		if rs.DeletionTimestamp == nil {
			old = append(old, rs)
		}
	}
	slices.SortStableFunc(old, func(a, b *replicaSet) int { return cmp.Compare(revisionOf(a.ReplicaSet), revisionOf(b.ReplicaSet)) })
	for _, rs := range old[:max(0, len(old)-int(*limit))] {
		rs.remove = rs.Status.Replicas == 0 && rs.was == 0 && rs.want() == 0 && rs.Generation <= rs.Status.ObservedGeneration
	}
}

func withReplicas(sets []*replicaSet) []*replicaSet {
	var out []*replicaSet
	for _, rs := range sets {
		if rs.want() > 0 {
			out = append(out, rs)
		}
	}
	return out
}

func total(sets []*replicaSet) int32 {
	n := int32(0)
	for _, rs := range sets {
		n += rs.want()
	}
	return n
}

// bounds returns maxSurge and maxUnavailable in Pods. Percentages of surge are rounded up, of unavailability down; when
// both come to nothing one Pod may be missing, or the update could never begin.
func bounds(d *appsv1.Deployment) (surge, unavailable int32) {
	u := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || u == nil {
		return 0, 0
	}
	want := int(ptr.Deref(d.Spec.Replicas, 1))
	s, _ := intstr.GetScaledValueFromIntOrPercent(ptr.To(ptr.Deref(u.MaxSurge, intstr.FromInt32(0))), want, true) // validation lets nothing else in
	m, _ := intstr.GetScaledValueFromIntOrPercent(ptr.To(ptr.Deref(u.MaxUnavailable, intstr.FromInt32(0))), want, false)
	if s == 0 && m == 0 {
		m = 1
	}
	return int32(s), int32(min(m, want))
}

func maxSurge(d *appsv1.Deployment) int32 { s, _ := bounds(d); return s }

func maxUnavailable(d *appsv1.Deployment) int32 { _, u := bounds(d); return u }
