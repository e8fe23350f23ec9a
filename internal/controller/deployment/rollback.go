package deployment

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// The reasons of the events of a rollback that the controller is asked for.
const (
	reasonRolledBack        = "DeploymentRollback"
	reasonNoRevision        = "DeploymentRollbackRevisionNotFound"
	reasonTemplateUnchanged = "DeploymentRollbackTemplateUnchanged"
)

// outcome is how a rollback went: an event of the Deployment.
type outcome struct {
	eventType, reason, message string
}

// rollbackTo returns the revision that the annotation deprecated.deployment.rollback.to asks for, and whether it asks for
// one. The annotation is what the field spec.rollbackTo of extensions/v1beta1 became; 0 is the revision before the current one.
func rollbackTo(d *appsv1.Deployment) (int64, bool) {
	n, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedRollbackTo], 10, 64)
	return n, err == nil
}

// rollback gives the Deployment the template and the annotations of an earlier revision, which the next round then rolls
// out. The request is dropped in any case, so that one that cannot be met does not stop the Deployment.
func (r *rollout) rollback(revision int64) {
	r.revise(true)
	r.rolledBack = r.restore(revision)
	delete(r.d.Annotations, appsv1.DeprecatedRollbackTo)
}

// restore takes over a revision and returns how that went.
func (r *rollout) restore(revision int64) *outcome {
	if revision == 0 {
		if revision = r.revisionBefore(); revision == 0 {
			return &outcome{corev1.EventTypeWarning, reasonNoRevision, "Unable to find last revision."}
		}
	}
	sets := r.all()
	i := slices.IndexFunc(sets, func(rs *replicaSet) bool { return revisionOf(rs.ReplicaSet) == revision })
	switch {
	case i < 0:
		return &outcome{corev1.EventTypeWarning, reasonNoRevision, "Unable to find the revision to rollback to."}
	case sameTemplate(&sets[i].Spec.Template, &r.d.Spec.Template):
		return &outcome{corev1.EventTypeWarning, reasonTemplateUnchanged,
			fmt.Sprintf("The rollback revision contains the same template as current deployment %q", r.d.Name)}
	}
	r.d.Spec.Template = *sets[i].Spec.Template.DeepCopy()
	delete(r.d.Spec.Template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	// The annotations are the revision's too, its change cause above all: otherwise those of the revision that is left
	// would be copied to the ReplicaSet that comes back.
	own := func(key, _ string) bool { return !slices.Contains(notCopied, key) }
	maps.DeleteFunc(r.d.Annotations, own)
	for key, value := range sets[i].Annotations {
		if own(key, value) {
			r.d.Annotations = with(r.d.Annotations, key, value)
		}
	}
	return &outcome{corev1.EventTypeNormal, reasonRolledBack, fmt.Sprintf("Rolled back deployment %q to revision %d", r.d.Name, revision)}
}

// revisionBefore returns the second largest revision, 0 when there is none.
func (r *rollout) revisionBefore() int64 {
	var last, before int64
	for _, rs := range r.all() {
		switch n := revisionOf(rs.ReplicaSet); {
		case n >= last:
			last, before = n, last
		case n > before:
			before = n
		}
	}
	return before
}
