package validate

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Meta returns all errors in the metadata of a new object. name is the kind's rule for names.
func Meta(meta *metav1.ObjectMeta, namespaced bool, name apivalidation.ValidateNameFunc) field.ErrorList {
	path := field.NewPath("metadata")
	faults := apivalidation.ValidateObjectMeta(meta, namespaced, name, path)
	return append(faults, finalizers(meta.Finalizers, path.Child("finalizers"))...)
}

// MetaUpdate returns all errors in a change of an object's metadata.
func MetaUpdate(meta, old *metav1.ObjectMeta) field.ErrorList {
	path := field.NewPath("metadata")
	faults := apivalidation.ValidateObjectMetaUpdate(meta, old, path)
	return append(faults, finalizers(meta.Finalizers, path.Child("finalizers"))...)
}

// standardFinalizers are the finalizers that need no domain.
var standardFinalizers = []string{string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents}

func finalizers(names []string, path *field.Path) (faults field.ErrorList) {
	for i, name := range names {
		faults = append(faults, KubeFinalizer(name, path.Index(i))...)
	}
	return faults
}

// KubeFinalizer requires that a finalizer without a domain is one of Kubernetes'.
func KubeFinalizer(name string, path *field.Path) field.ErrorList {
	if strings.Contains(name, "/") || slices.Contains(standardFinalizers, name) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified")}
}
