package statefulset

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// do carries out one action on a member and tells of it in an event.
func (k *Controller) do(ctx context.Context, v *view, a action) error {
	switch a.verb {
	case create:
		return k.create(ctx, v, a)
	case remove:
		return k.remove(ctx, v, a.pod)
	case update:
		return k.update(ctx, v, a)
	case addClaims:
		if err := k.addClaims(ctx, v, a); err != nil {
			return err
		}
		return k.ownClaims(ctx, v, a)
	case ownClaims:
		return k.ownClaims(ctx, v, a)
	}
	return fmt.Errorf("unknown action %d", a.verb)
}

func (k *Controller) create(ctx context.Context, v *view, a action) error {
	if err := k.addClaims(ctx, v, a); err != nil {
		k.tell(v, "Create", a.pod, err)
		return err
	}
	made, err := k.client.CoreV1().Pods(v.set.Namespace).Create(ctx, a.pod, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("create pod %s/%s: %w", v.set.Namespace, a.pod.Name, err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err != nil:
		k.tell(v, "Create", a.pod, err)
		return fmt.Errorf("create pod %s/%s: %w", v.set.Namespace, a.pod.Name, err)
	}
	k.expect.Created(v.set.UID, made.UID)
	k.tell(v, "Create", a.pod, nil)
	return k.ownClaims(ctx, v, action{pod: made, set: a.set})
}

func (k *Controller) remove(ctx context.Context, v *view, p *corev1.Pod) error {
	k.expect.Deleting(v.set.UID, p.UID, false)
	err := k.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		k.expect.Deleting(v.set.UID, p.UID, true)
		k.tell(v, "Delete", p, err)
		return fmt.Errorf("delete pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	k.tell(v, "Delete", p, nil)
	return nil
}

// update gives a member its identity and volumes again. The Pod is read from the API server, for the cache holds only a part of it.
func (k *Controller) update(ctx context.Context, v *view, a action) error {
	n := ordinal(v.set.Name, a.pod.Name)
	if !mountsClaims(v.set, a.pod, n) {
		if err := k.addClaims(ctx, v, a); err != nil {
			k.tell(v, "Update", a.pod, err)
			return err
		}
	}
	if err := k.ownClaims(ctx, v, a); err != nil {
		return err
	}
	client := k.client.CoreV1().Pods(v.set.Namespace)
	p, err := client.Get(ctx, a.pod.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && p.UID != a.pod.UID {
		return nil
	}
	if err == nil {
		identify(v.set, p, n)
		if !mountsClaims(v.set, p, n) {
			mountClaims(v.set, p, n)
		}
		_, err = client.Update(ctx, p, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) {
		return err
	}
	k.tell(v, "Update", a.pod, err)
	return err
}

// addClaims creates the member's claims that are missing.
func (k *Controller) addClaims(ctx context.Context, v *view, a action) error {
	var faults []error
	for _, c := range newClaims(a.set, ordinal(v.set.Name, a.pod.Name)) {
		if have := v.claims[c.Name]; have != nil {
			if have.DeletionTimestamp != nil {
				faults = append(faults, fmt.Errorf("pvc %s is being deleted", c.Name))
			}
			continue
		}
		_, err := k.client.CoreV1().PersistentVolumeClaims(c.Namespace).Create(ctx, c, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			continue
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("failed to create PVC %s: %w", c.Name, err))
			k.recorder.Eventf(v.set, corev1.EventTypeWarning, "FailedCreate", "Create Claim %s for Pod %s in StatefulSet %s failed error: %s", c.Name, a.pod.Name, v.set.Name, err)
			continue
		}
		k.recorder.Eventf(v.set, corev1.EventTypeNormal, "SuccessfulCreate", "Create Claim %s Pod %s in StatefulSet %s success", c.Name, a.pod.Name, v.set.Name)
	}
	return errors.Join(faults...)
}

// ownClaims gives the member's claims the owners that the retention policy wants.
func (k *Controller) ownClaims(ctx context.Context, v *view, a action) error {
	for _, t := range newClaims(a.set, ordinal(v.set.Name, a.pod.Name)) {
		have := v.claims[t.Name]
		if have == nil {
			continue // just created; the next round sees it
		}
		if foreign(have, a.set, a.pod) {
			k.recorder.Eventf(v.set, corev1.EventTypeWarning, "ConflictingController",
				"PersistentVolumeClaim %s has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim", have.Name)
		}
		owners, differ := claimOwners(have, a.set, a.pod)
		if !differ {
			continue
		}
		claim := have.DeepCopy()
		claim.OwnerReferences = owners
		if _, err := k.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, claim, metav1.UpdateOptions{}); err != nil {
			err = fmt.Errorf("could not update claim %s for delete policy ownerRefs: %w", claim.Name, err)
			if !apierrors.IsConflict(err) {
				k.tell(v, "Update", a.pod, err)
			}
			return err
		}
	}
	return nil
}

// tell records the event of an action on a member.
func (k *Controller) tell(v *view, what string, p *corev1.Pod, err error) {
	if err != nil {
		k.recorder.Eventf(v.set, corev1.EventTypeWarning, "Failed"+what, "%s Pod %s in StatefulSet %s failed error: %s", what, p.Name, v.set.Name, err)
		return
	}
	k.recorder.Eventf(v.set, corev1.EventTypeNormal, "Successful"+what, "%s Pod %s in StatefulSet %s successful", what, p.Name, v.set.Name)
}
