package deployment

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The annotations by which Kubernetes keeps a Deployment's history and scale on its ReplicaSets.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history"
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation      = "deployment.kubernetes.io/max-replicas"
)

// longestHistory is the longest value of the history's annotation, in characters; the oldest revisions are dropped first.
const longestHistory = 2000

// notCopied are the Deployment's annotations that its ReplicaSets do not get.
var notCopied = []string{
	corev1.LastAppliedConfigAnnotation, revisionAnnotation, historyAnnotation, desiredAnnotation, maxAnnotation, appsv1.DeprecatedRollbackTo,
}

// set sets an annotation and reports whether that changed it.
func set(o *metav1.ObjectMeta, key, value string) bool {
	if have, ok := o.Annotations[key]; ok && have == value {
		return false
	}
	o.Annotations = with(o.Annotations, key, value)
	return true
}

// with returns a copy of the map with the key set.
func with(m map[string]string, key, value string) map[string]string {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]string{}
	}
	out[key] = value
	return out
}

// number returns the int32 in an annotation, and whether there is one.
func number(annotations map[string]string, key string) (int32, bool) {
	n, err := strconv.ParseInt(annotations[key], 10, 32)
	return int32(n), err == nil
}

func revisionOf(rs *appsv1.ReplicaSet) int64 {
	n, _ := strconv.ParseInt(rs.Annotations[revisionAnnotation], 10, 64)
	return n
}

// annotate copies the Deployment's annotations to its new ReplicaSet and raises the ReplicaSet's revision; one that had a
// revision before, because an earlier template is back, keeps it in its history. It reports whether anything changed.
func annotate(rs *metav1.ObjectMeta, deployment map[string]string, revision int64, stored bool) bool {
	changed := false
	for key, value := range deployment {
		if !slices.Contains(notCopied, key) && set(rs, key, value) {
			changed = true
		}
	}
	before, known := rs.Annotations[revisionAnnotation]
	n, err := strconv.ParseInt(before, 10, 64)
	if known && err != nil && before != "" || n >= revision {
		return changed
	}
	set(rs, revisionAnnotation, strconv.FormatInt(revision, 10))
	if known && stored {
		set(rs, historyAnnotation, appendHistory(rs.Annotations[historyAnnotation], before))
	}
	return true
}

// appendHistory adds a revision to a list that is kept within longestHistory.
func appendHistory(list, revision string) string {
	if list == "" {
		return revision
	}
	for len(list)+len(revision)+1 > longestHistory {
		_, rest, more := strings.Cut(list, ",")
		if !more {
			return revision
		}
		list = rest
	}
	return list + "," + revision
}
