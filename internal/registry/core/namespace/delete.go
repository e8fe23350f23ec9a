package namespace

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storageerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"

	"podium.dev/podium/internal/registry/kit"
)

// verbs are the verbs of the main store that namespaces serve unchanged. deletecollection is not one of them.
type verbs interface {
	rest.Storage
	rest.Scoper
	rest.SingularNameProvider
	rest.ShortNamesProvider
	rest.CategoriesProvider
	rest.StorageVersionProvider
	rest.ResetFieldsStrategy
	rest.Getter
	rest.Lister
	rest.Watcher
	rest.Creater
	rest.Updater
}

// twoSteps serves namespaces: the first delete marks a namespace, and the delete of a marked and empty one
// removes it.
type twoSteps struct {
	verbs
	store *genericregistry.Store
}

var (
	_ rest.GracefulDeleter = &twoSteps{}
	_ rest.Patcher         = &twoSteps{}
)

// endInTwoSteps wraps the main store.
func endInTwoSteps(env kit.Env, main kit.Main) rest.Storage {
	return &twoSteps{verbs: main, store: env.Store}
}

// Delete implements rest.GracefulDeleter. It removes a namespace only if it is marked and has no finalizers.
func (r *twoSteps) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	obj, err := r.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, false, err
	}
	ns := obj.(*corev1.Namespace)
	if options == nil {
		options = metav1.NewDeleteOptions(0)
	}
	if err := pin(options, ns); err != nil {
		return nil, false, err
	}
	if ns.DeletionTimestamp.IsZero() {
		marked, err := r.mark(ctx, name, validate, options)
		return marked, false, err
	}
	if len(ns.Spec.Finalizers) != 0 {
		return ns, false, nil
	}
	return r.store.Delete(ctx, name, validate, options)
}

// pin restricts the delete to exactly the namespace that was read, so that a new one of the same name is safe.
func pin(options *metav1.DeleteOptions, ns *corev1.Namespace) error {
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{}
	}
	p := options.Preconditions
	if p.UID == nil {
		p.UID = &ns.UID
	}
	unmet := ""
	if *p.UID != ns.UID {
		unmet = fmt.Sprintf("UID in precondition: %v, UID in object meta: %v", *p.UID, ns.UID)
	} else if p.ResourceVersion != nil && *p.ResourceVersion != ns.ResourceVersion {
		unmet = fmt.Sprintf("ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", *p.ResourceVersion, ns.ResourceVersion)
	}
	if unmet == "" {
		return nil
	}
	return apierrors.NewConflict(resource, ns.Name, fmt.Errorf("Precondition failed: %s", unmet))
}

var resource = corev1.Resource("namespaces")

// mark stores the namespace with a deletion timestamp and the phase Terminating.
func (r *twoSteps) mark(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, error) {
	key, err := r.store.KeyFunc(ctx, name)
	if err != nil {
		return nil, err
	}
	out := r.store.NewFunc()
	terminate := storage.SimpleUpdate(func(existing runtime.Object) (runtime.Object, error) {
		ns, ok := existing.(*corev1.Namespace)
		if !ok {
			return nil, fmt.Errorf("mark namespace %s as terminating: the store holds a %T under its key", name, existing)
		}
		if err := validate(ctx, ns); err != nil {
			return nil, err
		}
		terminating(ns, options)
		return ns, nil
	})
	preconditions := &storage.Preconditions{UID: options.Preconditions.UID, ResourceVersion: options.Preconditions.ResourceVersion}
	err = r.store.Storage.GuaranteedUpdate(ctx, key, out, false, preconditions, terminate, dryrun.IsDryRun(options.DryRun), nil)
	if err == nil {
		return out, nil
	}
	err = storageerr.InterpretUpdateError(storageerr.InterpretGetError(err, resource, name), resource, name)
	if _, known := err.(apierrors.APIStatus); !known {
		err = apierrors.NewInternalError(err)
	}
	return nil, err
}

// terminating marks ns as deleted, with the finalizers that the propagation policy requires.
func terminating(ns *corev1.Namespace, options *metav1.DeleteOptions) {
	if ns.DeletionTimestamp.IsZero() {
		now := metav1.Now()
		ns.DeletionTimestamp = &now
	}
	ns.Status.Phase = corev1.NamespaceTerminating
	for finalizer, wanted := range propagation(options) {
		has := slices.Contains(ns.Finalizers, finalizer)
		switch {
		case wanted && !has:
			ns.Finalizers = append(ns.Finalizers, finalizer)
		case !wanted && has:
			ns.Finalizers = slices.DeleteFunc(slices.Clone(ns.Finalizers), func(f string) bool { return f == finalizer })
		}
	}
}

// propagation returns which of the two garbage collection finalizers must be present and which must not. It is
// empty if the delete does not specify it: both then stay as they are.
func propagation(options *metav1.DeleteOptions) map[string]bool {
	//nolint:staticcheck // OrphanDependents is deprecated, and clients still send it.
	if orphan := options.OrphanDependents; orphan != nil {
		return map[string]bool{metav1.FinalizerOrphanDependents: *orphan, metav1.FinalizerDeleteDependents: !*orphan}
	}
	if p := options.PropagationPolicy; p != nil {
		return map[string]bool{
			metav1.FinalizerOrphanDependents: *p == metav1.DeletePropagationOrphan,
			metav1.FinalizerDeleteDependents: *p == metav1.DeletePropagationForeground,
		}
	}
	return nil
}
