package pod

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/wait"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/registry/kit"
)

var evictionKind = policyv1.SchemeGroupVersion.WithKind("Eviction")

// evictionRetry is how often an eviction that meets another change of the Pod is tried again.
var evictionRetry = wait.Backoff{Steps: 20, Duration: 500 * time.Millisecond, Factor: 1, Jitter: 0.1}

// evictionREST deletes a Pod unless a disruption budget forbids it.
type evictionREST struct {
	pods   *genericregistry.Store
	status *kit.Subresource
	lookup func(schema.GroupResource) *genericregistry.Store
	clock  clock.PassiveClock
}

var (
	_ rest.NamedCreater             = &evictionREST{}
	_ rest.GroupVersionKindProvider = &evictionREST{}
	_ rest.GroupVersionAcceptor     = &evictionREST{}
)

// New implements rest.Storage.
func (r *evictionREST) New() runtime.Object { return &policyv1.Eviction{} }

// Destroy implements rest.Storage; the main store owns what there is to destroy.
func (r *evictionREST) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider: an Eviction is not of the Pod's group.
func (r *evictionREST) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return evictionKind
}

// AcceptsGroupVersion implements rest.GroupVersionAcceptor.
func (r *evictionREST) AcceptsGroupVersion(gv schema.GroupVersion) bool {
	return gv == policyv1.SchemeGroupVersion
}

// Create implements rest.NamedCreater.
func (r *evictionREST) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	eviction, ok := obj.(*policyv1.Eviction)
	if !ok {
		return nil, errors.NewBadRequest(fmt.Sprintf("not a Eviction object: %T", obj))
	}
	if name != eviction.Name {
		return nil, errors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if eviction.DeleteOptions != nil && ptr.Deref(eviction.DeleteOptions.IgnoreStoreReadErrorWithClusterBreakingPotential, false) {
		return nil, errors.NewInvalid(evictionKind.GroupKind(), name, field.ErrorList{
			field.Invalid(field.NewPath("deleteOptions", "ignoreStoreReadErrorWithClusterBreakingPotential"), true, "can not be set for pod eviction, try after removing the option"),
		})
	}
	deletion, err := deletionOf(eviction, options)
	if err != nil {
		return nil, err
	}
	if validate != nil {
		if err := validate(ctx, eviction.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	pod, done, err := r.evictUnguarded(ctx, name, deletion)
	if err != nil {
		return nil, err
	}
	if !done {
		refusal, err := r.evictGuarded(ctx, pod, deletion)
		if err != nil {
			return nil, err
		}
		if refusal != nil {
			return refusal, nil
		}
	}
	return &metav1.Status{Status: metav1.StatusSuccess}, nil
}

// deletionOf returns the options of the deletion that an eviction is. A dry run may be asked for in the
// request or in the eviction, but not differently.
func deletionOf(e *policyv1.Eviction, options *metav1.CreateOptions) (*metav1.DeleteOptions, error) {
	switch {
	case e.DeleteOptions == nil:
		return &metav1.DeleteOptions{DryRun: options.DryRun}, nil
	case len(e.DeleteOptions.DryRun) == 0:
		e.DeleteOptions.DryRun = options.DryRun
	case len(options.DryRun) != 0 && !slices.Equal(options.DryRun, e.DeleteOptions.DryRun):
		return nil, fmt.Errorf("Non-matching dry-run options in request and content: %v and %v", options.DryRun, e.DeleteOptions.DryRun) //nolint:staticcheck // Kubernetes' words
	}
	return e.DeleteOptions, nil
}

// evictUnguarded deletes a Pod that no budget guards, because it does no work: it waits, has ended or is
// being deleted. It returns the Pod, and whether it was deleted.
func (r *evictionREST) evictUnguarded(ctx context.Context, name string, deletion *metav1.DeleteOptions) (pod *corev1.Pod, done bool, err error) {
	again := evictionRetry
	if versionOf(deletion) != "" {
		again.Steps = 1 // the version asked for is the only one that will do
	}
	var last error
	err = wait.ExponentialBackoffWithContext(ctx, again, func(ctx context.Context) (bool, error) {
		pod, done, last = r.tryUnguarded(ctx, name, deletion)
		if errors.IsConflict(last) {
			return false, nil
		}
		return true, last
	})
	if wait.Interrupted(err) && last != nil {
		err = last
	}
	return pod, done, err
}

func (r *evictionREST) tryUnguarded(ctx context.Context, name string, deletion *metav1.DeleteOptions) (*corev1.Pod, bool, error) {
	obj, err := r.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, false, err
	}
	pod := obj.(*corev1.Pod)
	ended := podutil.Ended(pod) || !pod.DeletionTimestamp.IsZero()
	if !ended && pod.Status.Phase != corev1.PodPending {
		return pod, false, nil
	}
	if !ended && versionOf(deletion) == "" {
		// It may become ready meanwhile, and then it is guarded.
		deletion = atVersion(deletion, pod.ResourceVersion)
	}
	return pod, true, r.delete(ctx, name, deletion)
}

// evictGuarded deletes a Pod if its disruption budget has room for it. The status it may return is that
// of a refusal which is no error to the budget's rules.
func (r *evictionREST) evictGuarded(ctx context.Context, pod *corev1.Pod, deletion *metav1.DeleteOptions) (*metav1.Status, error) {
	budgets, err := r.budgets(ctx, pod)
	if err != nil {
		return nil, err
	}
	if len(budgets) > 1 {
		return &metav1.Status{
			Status:  metav1.StatusFailure,
			Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
			Code:    500,
		}, nil
	}
	options, pinned := deletion, false
	if len(budgets) == 1 {
		if pinned = !isReady(&pod.Status) && unreadyMayGo(&budgets[0]); pinned {
			// It does not count now; it must not have become ready when it is deleted.
			options = atVersion(deletion, pod.ResourceVersion)
		} else if err := r.takeFrom(ctx, &budgets[0], pod, dryrun.IsDryRun(deletion.DryRun)); err != nil {
			return nil, err
		}
	}
	err = r.delete(ctx, pod.Name, options)
	if errors.IsConflict(err) && pinned && versionOf(deletion) == "" {
		return nil, tooManyRequests(budgets[0].Name)
	}
	return nil, err
}

// delete says in the Pod's status why it goes, and deletes it.
func (r *evictionREST) delete(ctx context.Context, name string, options *metav1.DeleteOptions) error {
	if !dryrun.IsDryRun(options.DryRun) {
		version, err := r.mark(ctx, name, options)
		if err != nil {
			return err
		}
		if versionOf(options) != "" {
			options = atVersion(options, version)
		}
	}
	_, _, err := r.pods.Delete(ctx, name, rest.ValidateAllObjectFunc, options)
	return err
}

// mark adds the condition DisruptionTarget to the Pod and returns its new version.
func (r *evictionREST) mark(ctx context.Context, name string, options *metav1.DeleteOptions) (string, error) {
	latest := func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		pod := old.(*corev1.Pod).DeepCopy()
		return pod, meets(options.Preconditions, pod)
	}
	condition := func(_ context.Context, obj, _ runtime.Object) (runtime.Object, error) {
		setCondition(&obj.(*corev1.Pod).Status, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
		}, metav1.NewTime(r.clock.Now()))
		return obj, nil
	}
	updated, _, err := r.status.Update(ctx, name, rest.DefaultUpdatedObjectInfo(nil, latest, condition),
		rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
	if err != nil {
		return "", err
	}
	return updated.(*corev1.Pod).ResourceVersion, nil
}

// meets says what is wrong with a Pod for a deletion with these preconditions.
func meets(p *metav1.Preconditions, pod *corev1.Pod) error {
	if p == nil {
		return nil
	}
	conflict := func(format string, args ...any) error {
		return errors.NewConflict(schema.GroupResource{Resource: "Pod"}, pod.Name, fmt.Errorf(format, args...))
	}
	if p.UID != nil && *p.UID != "" && *p.UID != pod.UID {
		return conflict("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, pod.UID)
	}
	if v := p.ResourceVersion; v != nil && *v != "" && *v != pod.ResourceVersion {
		return conflict("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *v, pod.ResourceVersion)
	}
	return nil
}

// versionOf returns the resource version that a deletion is for, or "".
func versionOf(o *metav1.DeleteOptions) string {
	if o.Preconditions == nil || o.Preconditions.ResourceVersion == nil {
		return ""
	}
	return *o.Preconditions.ResourceVersion
}

// atVersion returns the same deletion for one version of the object only.
func atVersion(o *metav1.DeleteOptions, version string) *metav1.DeleteOptions {
	o = o.DeepCopy()
	if o.Preconditions == nil {
		o.Preconditions = &metav1.Preconditions{}
	}
	o.Preconditions.ResourceVersion = &version
	return o
}
