package namespace

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/validate"
)

// finalize serves PUT of a namespace's spec.finalizers. It has no other verb.
type finalize struct {
	sub *kit.Subresource
}

var (
	_ rest.Updater             = &finalize{}
	_ rest.ResetFieldsStrategy = &finalize{}
)

func finalizeREST(env kit.Env, d kit.Definition[*corev1.Namespace]) *finalize {
	return &finalize{kit.NewSubresource(env, nil, d, kit.SubresourceRules[*corev1.Namespace]{
		PrepareUpdate:  func(_ context.Context, ns, old *corev1.Namespace) { ns.Status = old.Status },
		ValidateUpdate: checkFinalize,
		ResetFields:    [][]string{{"status"}},
	})}
}

func checkFinalize(_ context.Context, ns, old *corev1.Namespace) field.ErrorList {
	faults := validate.MetaUpdate(&ns.ObjectMeta, &old.ObjectMeta)
	for i, name := range ns.Spec.Finalizers {
		faults = append(faults, finalizer(name, field.NewPath("spec", "finalizers").Index(i))...)
	}
	return faults
}

// New implements rest.Storage.
func (f *finalize) New() runtime.Object { return f.sub.New() }

// Destroy implements rest.Storage.
func (f *finalize) Destroy() {}

// GetResetFields implements rest.ResetFieldsStrategy.
func (f *finalize) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return f.sub.GetResetFields()
}

// Update implements rest.Updater.
func (f *finalize) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return f.sub.Update(ctx, name, info, create, update, false, options)
}
