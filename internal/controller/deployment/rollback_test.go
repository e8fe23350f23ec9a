package deployment

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

const changeCause = "kubernetes.io/change-cause"

// revised returns a Deployment whose revisions 1 to len(images) had these images, each with its change cause.
func revised(t *testing.T, images ...string) *cluster {
	t.Helper()
	c := &cluster{d: newDeployment(2, images[0]), now: start}
	for _, image := range images {
		c.setImage(image)
		set(&c.d.ObjectMeta, changeCause, "to "+image)
		c.settle(t)
	}
	return c
}

func TestRollback(t *testing.T) {
	const notFound, unchanged, done = "DeploymentRollbackRevisionNotFound", "DeploymentRollbackTemplateUnchanged", "DeploymentRollback"
	for _, tc := range []struct {
		name    string
		images  []string
		to      string
		reason  string // of the event; empty when the annotation asks for nothing
		message string
		image   string // of the template afterwards
		cause   string
		// revision is the Deployment's when all is settled.
		revision string
	}{
		{"to the one before", []string{"a", "b", "c"}, "0", done, `Rolled back deployment "web" to revision 2`, "b", "to b", "4"},
		{"to the one before, which came back before", []string{"a", "b", "a"}, "0", done, `Rolled back deployment "web" to revision 2`, "b", "to b", "4"},
		{"to a number", []string{"a", "b", "c"}, "1", done, `Rolled back deployment "web" to revision 1`, "a", "to a", "4"},
		{"to the current one", []string{"a", "b"}, "2", unchanged, `The rollback revision contains the same template as current deployment "web"`, "b", "to b", "2"},
		{"to a number that a return took away", []string{"a", "b", "a"}, "1", notFound, "Unable to find the revision to rollback to.", "a", "to a", "3"},
		{"to one that never was", []string{"a", "b"}, "7", notFound, "Unable to find the revision to rollback to.", "b", "to b", "2"},
		{"below zero", []string{"a", "b"}, "-1", notFound, "Unable to find the revision to rollback to.", "b", "to b", "2"},
		{"nothing before", []string{"a"}, "0", notFound, "Unable to find last revision.", "a", "to a", "1"},
		{"not a number", []string{"a", "b"}, "last", "", "", "b", "to b", "2"},
		{"empty", []string{"a", "b"}, "", "", "", "b", "to b", "2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := revised(t, tc.images...)
			set(&c.d.ObjectMeta, appsv1.DeprecatedRollbackTo, tc.to)
			r := c.round()
			switch {
			case tc.reason == "" && r.rolledBack != nil:
				t.Fatalf("rolled back: %+v", *r.rolledBack)
			case tc.reason != "" && r.rolledBack == nil:
				t.Fatal("the request was not looked at")
			case tc.reason != "":
				want := outcome{corev1.EventTypeWarning, tc.reason, tc.message}
				if tc.reason == done {
					want.eventType = corev1.EventTypeNormal
				}
				if *r.rolledBack != want {
					t.Errorf("event %+v, want %+v", *r.rolledBack, want)
				}
				if left, ok := c.d.Annotations[appsv1.DeprecatedRollbackTo]; ok {
					t.Errorf("the request %q is still there", left)
				}
			}
			c.settle(t)
			if got := c.d.Spec.Template.Spec.Containers[0].Image; got != tc.image {
				t.Errorf("image %s, want %s", got, tc.image)
			}
			if hash, ok := c.d.Spec.Template.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; ok {
				t.Errorf("the ReplicaSet's hash %s got into the Deployment's template", hash)
			}
			if got := c.d.Annotations[changeCause]; got != tc.cause {
				t.Errorf("change cause %q, want %q", got, tc.cause)
			}
			if got := c.d.Annotations[revisionAnnotation]; got != tc.revision {
				t.Errorf("revision %s, want %s", got, tc.revision)
			}
			for _, rs := range c.sets {
				if want := "to " + rs.Spec.Template.Spec.Containers[0].Image; rs.Annotations[changeCause] != want {
					t.Errorf("replica set of revision %s has the change cause %q, want %q", rs.Annotations[revisionAnnotation], rs.Annotations[changeCause], want)
				}
				if _, ok := rs.Annotations[appsv1.DeprecatedRollbackTo]; ok {
					t.Error("a ReplicaSet got the request")
				}
			}
		})
	}
}

// A template that has no ReplicaSet yet becomes a revision first, so that the one before is the one that runs.
func TestRollbackOfATemplateThatWasNeverRolledOut(t *testing.T) {
	c := revised(t, "a", "b")
	c.setImage("c")
	set(&c.d.ObjectMeta, appsv1.DeprecatedRollbackTo, "0")
	r := c.round()
	if r.rolledBack == nil || !strings.HasSuffix(r.rolledBack.message, "to revision 2") {
		t.Fatalf("outcome %+v", r.rolledBack)
	}
	c.settle(t)
	if got := c.names(); got != "a=0/0 b=2/2 c=0/0" {
		t.Errorf("at the end: %s", got)
	}
}

// A paused Deployment is rolled back when it is resumed.
func TestRollbackWaitsForTheEndOfAPause(t *testing.T) {
	c := revised(t, "a", "b")
	c.d.Spec.Paused = true
	set(&c.d.ObjectMeta, appsv1.DeprecatedRollbackTo, "1")
	if r := c.round(); r.rolledBack != nil || c.d.Annotations[appsv1.DeprecatedRollbackTo] != "1" {
		t.Fatalf("rolled back while paused: %+v", r.rolledBack)
	}
	c.d.Spec.Paused = false
	if r := c.round(); r.rolledBack == nil || r.rolledBack.reason != reasonRolledBack {
		t.Fatalf("outcome %+v", r.rolledBack)
	}
}
