// Package secret serves core/v1 secrets.
package secret

import (
	"context"
	"crypto/tls"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind Secret.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*corev1.Secret]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Secret"),
		Resource:   "secrets",
		Singular:   "secret",
		Namespaced: true,
		New:        func() *corev1.Secret { return &corev1.Secret{} },
		NewList:    func() runtime.Object { return &corev1.SecretList{} },

		Default:        SetDefaults,
		Validate:       func(_ context.Context, s *corev1.Secret) field.ErrorList { return Check(s) },
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Selectable: func(s *corev1.Secret) fields.Set {
			return fields.Set{"type": string(s.Type)}
		},
		Table: &kit.Table[*corev1.Secret]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Type", corev1.Secret{}.SwaggerDoc()["type"]),
				column.Text("Data", corev1.Secret{}.SwaggerDoc()["data"]),
				column.Age(),
			},
			Row: func(s *corev1.Secret) ([]any, []metav1.TableRowCondition) {
				return []any{s.Name, string(s.Type), int64(len(s.Data)), column.Since(s.CreationTimestamp)}, nil
			},
		},
	})
}

// SetDefaults sets the type, and moves stringData into data, so that it is neither stored nor returned.
func SetDefaults(s *corev1.Secret) {
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for key, value := range s.StringData {
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
}

// Check returns all errors in a new Secret.
func Check(s *corev1.Secret) field.ErrorList {
	faults := validate.Meta(&s.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	path := field.NewPath("data")
	size := 0
	for key, value := range s.Data {
		faults = append(faults, validate.DataKey(path, key)...)
		size += len(value)
	}
	if size > corev1.MaxSecretSize {
		faults = append(faults, field.TooLong(path, "", corev1.MaxSecretSize))
	}
	return append(faults, checkType(s, path)...)
}

// checkType requires the keys that the secret's type defines.
func checkType(s *corev1.Secret, path *field.Path) field.ErrorList {
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			return field.ErrorList{field.Required(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), "")}
		}
	case corev1.SecretTypeDockercfg:
		return dockerConfig(s.Data, path, corev1.DockerConfigKey)
	case corev1.SecretTypeDockerConfigJson:
		return dockerConfig(s.Data, path, corev1.DockerConfigJsonKey)
	case corev1.SecretTypeBasicAuth:
		if _, ok := s.Data[corev1.BasicAuthUsernameKey]; ok {
			return nil
		}
		if _, ok := s.Data[corev1.BasicAuthPasswordKey]; ok {
			return nil
		}
		return present(s.Data, path, corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey)
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			return field.ErrorList{field.Required(path.Key(corev1.SSHAuthPrivateKey), "")}
		}
	case corev1.SecretTypeTLS:
		return present(s.Data, path, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
	return nil
}

func present(data map[string][]byte, path *field.Path, keys ...string) (faults field.ErrorList) {
	for _, key := range keys {
		if _, ok := data[key]; !ok {
			faults = append(faults, field.Required(path.Key(key), ""))
		}
	}
	return faults
}

func dockerConfig(data map[string][]byte, path *field.Path, key string) field.ErrorList {
	if faults := present(data, path, key); len(faults) > 0 {
		return faults
	}
	if err := json.Unmarshal(data[key], &map[string]any{}); err != nil {
		return field.ErrorList{field.Invalid(path.Key(key), "<secret contents redacted>", err.Error())}
	}
	return nil
}

func checkUpdate(_ context.Context, s, old *corev1.Secret) field.ErrorList {
	faults := validate.MetaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	faults = append(faults, validate.Immutable(s.Type, old.Type, field.NewPath("type"))...)
	if validate.Frozen(old.Immutable) {
		faults = append(faults, validate.StillFrozen(s.Immutable)...)
		faults = append(faults, validate.FrozenField(s.Data, old.Data, "data")...)
	}
	return append(faults, Check(s)...)
}

// warn warns if the key of a TLS secret does not match its certificate.
func warn(_ context.Context, s, _ *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}
