package app

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/core/configmap"
	"podium.dev/podium/internal/registry/core/secret"
)

// defaultObject fills in what the API server would for an object in the folder of static Pods.
func defaultObject(object runtime.Object) {
	if s, ok := object.(*corev1.Secret); ok {
		secret.SetDefaults(s)
	}
}

// checkObject finds what the API server would refuse of an object in the folder of static Pods.
func checkObject(object runtime.Object) field.ErrorList {
	switch object := object.(type) {
	case *corev1.ConfigMap:
		return configmap.Check(object)
	case *corev1.Secret:
		return secret.Check(object)
	}
	return nil
}
