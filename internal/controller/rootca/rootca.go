// Package rootca maintains the ConfigMap kube-root-ca.crt with the API server's CA in every active namespace.
// The service-account volume of each Pod includes it.
package rootca

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/pernamespace"
	"podium.dev/podium/internal/controller/sources"
)

// Name is the name of the ConfigMap, Key its only key.
const (
	Name = "kube-root-ca.crt"
	Key  = "ca.crt"
)

// The annotation and its text are those that Kubernetes sets on the ConfigMap.
const (
	descriptionKey = "kubernetes.io/description"
	description    = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// publisher writes the ConfigMap where it is missing or differs.
type publisher struct {
	client     kubernetes.Interface
	ca         string
	configmaps corelisters.ConfigMapLister
}

// New returns the controller that publishes the CA bundle, in PEM.
func New(client kubernetes.Interface, src *sources.Sources, c clock.Clock, ca []byte) *pernamespace.Keeper {
	configmaps := src.ConfigMapsNamed(Name)
	p := &publisher{client: client, ca: string(ca), configmaps: configmaps.Lister()}
	return pernamespace.New("root-ca-cert-publisher", src, configmaps.Informer(), c, p.publish)
}

func (p *publisher) publish(ctx context.Context, namespace string) error {
	have, err := p.configmaps.ConfigMaps(namespace).Get(Name)
	if err != nil {
		return p.create(ctx, namespace)
	}
	data := map[string]string{Key: p.ca}
	if maps.Equal(have.Data, data) && have.Annotations[descriptionKey] != "" {
		return nil
	}
	want := have.DeepCopy()
	want.Data = data
	metav1.SetMetaDataAnnotation(&want.ObjectMeta, descriptionKey, description)
	_, err = p.client.CoreV1().ConfigMaps(namespace).Update(ctx, want, metav1.UpdateOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("update ConfigMap %s/%s: %w", namespace, Name, err)
}

func (p *publisher) create(ctx context.Context, namespace string) error {
	_, err := p.client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name: Name, Namespace: namespace,
			Annotations: map[string]string{descriptionKey: description},
		},
		Data: map[string]string{Key: p.ca},
	}, metav1.CreateOptions{})
	if pernamespace.Done(err) {
		return nil
	}
	return fmt.Errorf("create ConfigMap %s/%s: %w", namespace, Name, err)
}
