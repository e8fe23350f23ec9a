// Package controllerrevision serves apps/v1 controllerrevisions: earlier states of stateful and daemon sets.
package controllerrevision

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind ControllerRevision.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*appsv1.ControllerRevision]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("ControllerRevision"),
		Resource:   "controllerrevisions",
		Singular:   "controllerrevision",
		Namespaced: true,
		New:        func() *appsv1.ControllerRevision { return &appsv1.ControllerRevision{} },
		NewList:    func() runtime.Object { return &appsv1.ControllerRevisionList{} },

		Validate: func(_ context.Context, r *appsv1.ControllerRevision) field.ErrorList {
			return append(check(r), checkData(r.Data.Raw, field.NewPath("data"))...)
		},
		ValidateUpdate: func(_ context.Context, r, old *appsv1.ControllerRevision) field.ErrorList {
			faults := append(validate.MetaUpdate(&r.ObjectMeta, &old.ObjectMeta), check(r)...)
			return append(faults, validate.Immutable(r.Data, old.Data, field.NewPath("data"))...)
		},
		Table: &kit.Table[*appsv1.ControllerRevision]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Controller", "Controller of the object"),
				column.Text("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]),
				column.Age(),
			},
			Row: func(r *appsv1.ControllerRevision) ([]any, []metav1.TableRowCondition) {
				return []any{r.Name, controller(r), r.Revision, column.Since(r.CreationTimestamp)}, nil
			},
		},
	})
}

func check(r *appsv1.ControllerRevision) field.ErrorList {
	faults := validate.Meta(&r.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	return append(faults, validate.NonNegative(r.Revision, field.NewPath("revision"))...)
}

// checkData requires a JSON object of any kind.
func checkData(raw []byte, path *field.Path) field.ErrorList {
	var data any
	if raw != nil {
		if err := json.Unmarshal(raw, &data); err != nil {
			return field.ErrorList{field.Invalid(path, "<value omitted>", fmt.Sprintf("error parsing data: %v", err))}
		}
	}
	if data == nil {
		return field.ErrorList{field.Required(path, "data is mandatory")}
	}
	if _, object := data.(map[string]any); !object {
		return field.ErrorList{field.Required(path, "data must be a valid JSON object")}
	}
	return nil
}

// controller returns the set that the revision belongs to, such as "statefulset.apps/web".
func controller(r *appsv1.ControllerRevision) string {
	ref := metav1.GetControllerOf(r)
	if ref == nil {
		return column.None
	}
	kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()
	return strings.ToLower(kind.String()) + "/" + ref.Name
}
