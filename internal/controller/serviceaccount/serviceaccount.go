// Package serviceaccount maintains a service account named "default" in every active namespace, so that Pods
// can be created as soon as the namespace exists.
package serviceaccount

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/pernamespace"
	"podium.dev/podium/internal/controller/sources"
)

// Name is the service account that every namespace has.
const Name = "default"

// New returns the controller, which creates the service account where it is missing.
func New(client kubernetes.Interface, src *sources.Sources, c clock.Clock) *pernamespace.Keeper {
	accounts := src.ServiceAccountsNamed(Name)
	lister := accounts.Lister()
	return pernamespace.New("serviceaccount", src, accounts.Informer(), c, func(ctx context.Context, namespace string) error {
		if _, err := lister.ServiceAccounts(namespace).Get(Name); err == nil {
			return nil
		}
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: namespace}}
		if _, err := client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{}); !pernamespace.Done(err) {
			return fmt.Errorf("create service account %s/%s: %w", namespace, Name, err)
		}
		return nil
	})
}
