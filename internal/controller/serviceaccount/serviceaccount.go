// Package serviceaccount keeps a service account named "default" in every active namespace, so that a Pod
// can be created as soon as its namespace is.
package serviceaccount

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/loop"
	"podium.dev/podium/internal/controller/sources"
)

// Name is the service account that every namespace has.
const Name = "default"

// Controller creates the service account where it is missing.
type Controller struct {
	client     kubernetes.Interface
	namespaces corelisters.NamespaceLister
	accounts   corelisters.ServiceAccountLister
	synced     []cache.InformerSynced
	loop       *loop.Loop[string]
}

// New makes the controller.
func New(client kubernetes.Interface, src *sources.Sources, c clock.Clock) *Controller {
	namespaces, accounts := src.Namespaces(), src.ServiceAccountsNamed(Name)
	k := &Controller{
		client:     client,
		namespaces: namespaces.Lister(),
		accounts:   accounts.Lister(),
		synced:     []cache.InformerSynced{namespaces.Informer().HasSynced, accounts.Informer().HasSynced},
	}
	k.loop = loop.New("serviceaccount", c, 4, k.sync)
	sources.OnChange(namespaces.Informer(), func(o metav1.Object) { k.loop.Add(o.GetName()) })
	sources.OnDelete(accounts.Informer(), func(o metav1.Object) { k.loop.Add(o.GetNamespace()) })
	return k
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) {
	if cache.WaitForCacheSync(ctx.Done(), k.synced...) {
		k.loop.Run(ctx)
	}
}

func (k *Controller) sync(ctx context.Context, namespace string) (time.Duration, error) {
	ns, err := k.namespaces.Get(namespace)
	if err != nil || ns.Status.Phase == corev1.NamespaceTerminating || ns.DeletionTimestamp != nil {
		return 0, nil // gone or going: nothing belongs in it
	}
	if _, err := k.accounts.ServiceAccounts(namespace).Get(Name); err == nil {
		return 0, nil
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: namespace}}
	_, err = k.client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) || gone(err) {
		return 0, nil
	}
	return 0, fmt.Errorf("create service account %s/%s: %w", namespace, Name, err)
}

// gone says whether a create failed because its namespace is gone or going.
func gone(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
