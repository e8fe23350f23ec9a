// Package rootca keeps the ConfigMap kube-root-ca.crt, with the CA of the API server, in every active
// namespace: the service-account volume of each Pod takes it from there.
package rootca

import (
	"context"
	"fmt"
	"maps"
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

// Name is the ConfigMap; Key its only entry.
const (
	Name = "kube-root-ca.crt"
	Key  = "ca.crt"
)

// The annotation and its text are what Kubernetes puts on the ConfigMap.
const (
	descriptionKey = "kubernetes.io/description"
	description    = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Controller writes the ConfigMap where it is missing or differs.
type Controller struct {
	client     kubernetes.Interface
	ca         string
	namespaces corelisters.NamespaceLister
	configmaps corelisters.ConfigMapLister
	synced     []cache.InformerSynced
	loop       *loop.Loop[string]
}

// New makes the controller that publishes the CA bundle, in PEM.
func New(client kubernetes.Interface, src *sources.Sources, c clock.Clock, ca []byte) *Controller {
	namespaces, configmaps := src.Namespaces(), src.ConfigMapsNamed(Name)
	k := &Controller{
		client:     client,
		ca:         string(ca),
		namespaces: namespaces.Lister(),
		configmaps: configmaps.Lister(),
		synced:     []cache.InformerSynced{namespaces.Informer().HasSynced, configmaps.Informer().HasSynced},
	}
	k.loop = loop.New("root-ca-cert-publisher", c, 4, k.sync)
	sources.OnChange(namespaces.Informer(), func(o metav1.Object) { k.loop.Add(o.GetName()) })
	again := func(o metav1.Object) { k.loop.Add(o.GetNamespace()) }
	sources.OnUpdate(configmaps.Informer(), again)
	sources.OnDelete(configmaps.Informer(), again)
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
	have, err := k.configmaps.ConfigMaps(namespace).Get(Name)
	if err != nil {
		return 0, k.create(ctx, namespace)
	}
	data := map[string]string{Key: k.ca}
	if maps.Equal(have.Data, data) && have.Annotations[descriptionKey] != "" {
		return 0, nil
	}
	want := have.DeepCopy()
	want.Data = data
	metav1.SetMetaDataAnnotation(&want.ObjectMeta, descriptionKey, description)
	_, err = k.client.CoreV1().ConfigMaps(namespace).Update(ctx, want, metav1.UpdateOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, fmt.Errorf("bring ConfigMap %s/%s up to date: %w", namespace, Name, err)
}

func (k *Controller) create(ctx context.Context, namespace string) error {
	_, err := k.client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name: Name, Namespace: namespace,
			Annotations: map[string]string{descriptionKey: description},
		},
		Data: map[string]string{Key: k.ca},
	}, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) ||
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return fmt.Errorf("create ConfigMap %s/%s: %w", namespace, Name, err)
}
