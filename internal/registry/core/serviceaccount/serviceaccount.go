// Package serviceaccount serves core/v1 serviceaccounts and their tokens.
package serviceaccount

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// enforceMountableSecrets is the deprecated annotation that restricts Pods to the account's own secrets.
const enforceMountableSecrets = "kubernetes.io/enforce-mountable-secrets"

// Kind returns the kind ServiceAccount.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.ServiceAccount]{
		GVK:        corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
		Resource:   "serviceaccounts",
		Singular:   "serviceaccount",
		ShortNames: []string{"sa"},
		Namespaced: true,
		New:        func() *corev1.ServiceAccount { return &corev1.ServiceAccount{} },
		NewList:    func() runtime.Object { return &corev1.ServiceAccountList{} },

		ReturnDeleted:  true,
		Prepare:        func(_ context.Context, sa *corev1.ServiceAccount) { keepSecretNames(sa) },
		Validate:       check,
		PrepareUpdate:  func(_ context.Context, sa, _ *corev1.ServiceAccount) { keepSecretNames(sa) },
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Table: &kit.Table[*corev1.ServiceAccount]{
			Columns: []column.Definition{column.Name(), column.Age()},
			Row: func(sa *corev1.ServiceAccount) ([]any, []metav1.TableRowCondition) {
				return []any{sa.Name, column.Since(sa.CreationTimestamp)}, nil
			},
		},
		Connect: func(env kit.Env) (map[string]rest.Storage, error) {
			return map[string]rest.Storage{"token": &tokenREST{env: env}}, nil
		},
	})
}

// keepSecretNames reduces references to secrets to their names: they are in the account's own namespace.
func keepSecretNames(sa *corev1.ServiceAccount) {
	for i, s := range sa.Secrets {
		sa.Secrets[i] = corev1.ObjectReference{Name: s.Name}
	}
}

func check(_ context.Context, sa *corev1.ServiceAccount) field.ErrorList {
	return validate.Meta(&sa.ObjectMeta, true, apivalidation.ValidateServiceAccountName)
}

func checkUpdate(ctx context.Context, sa, old *corev1.ServiceAccount) field.ErrorList {
	return append(validate.MetaUpdate(&sa.ObjectMeta, &old.ObjectMeta), check(ctx, sa)...)
}

func warn(_ context.Context, sa, old *corev1.ServiceAccount) []string {
	if old != nil {
		if _, before := old.Annotations[enforceMountableSecrets]; before {
			return nil
		}
	}
	if _, now := sa.Annotations[enforceMountableSecrets]; !now {
		return nil
	}
	return []string{fmt.Sprintf("metadata.annotations[%s]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets", enforceMountableSecrets)}
}
