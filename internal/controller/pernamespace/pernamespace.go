// Package pernamespace maintains one object of a given name in every active namespace. It calls a controller's
// function whenever a namespace is added or changed, or its object is changed or deleted.
package pernamespace

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Keeper calls the function.
type Keeper struct {
	namespaces corelisters.NamespaceLister
	synced     []cache.InformerSynced
	loop       *loop.Loop[string]
	keep       func(ctx context.Context, namespace string) error
}

// New returns a keeper of the objects that the informer sees. The name appears in logs.
func New(name string, src *sources.Sources, objects cache.SharedIndexInformer, c clock.Clock, keep func(ctx context.Context, namespace string) error) *Keeper {
	namespaces := src.Namespaces()
	k := &Keeper{
		namespaces: namespaces.Lister(), keep: keep,
		synced: []cache.InformerSynced{namespaces.Informer().HasSynced, objects.HasSynced},
	}
	k.loop = loop.New(name, c, 4, k.sync)
	sources.OnChange(namespaces.Informer(), func(o metav1.Object) { k.loop.Add(o.GetName()) })
	again := func(o metav1.Object) { k.loop.Add(o.GetNamespace()) }
	sources.OnUpdate(objects, again)
	sources.OnDelete(objects, again)
	return k
}

// Run runs the keeper until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	k.loop.RunSynced(ctx, k.synced...)
}

func (k *Keeper) sync(ctx context.Context, namespace string) (time.Duration, error) {
	ns, err := k.namespaces.Get(namespace)
	if err != nil || ns.Status.Phase == corev1.NamespaceTerminating || ns.DeletionTimestamp != nil {
		return 0, nil // deleted or terminating: it needs no object
	}
	return 0, k.keep(ctx, namespace)
}

// Done reports whether a create has done its work: the object exists now, or its namespace is deleted or
// terminating.
func Done(err error) bool {
	return err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) ||
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
