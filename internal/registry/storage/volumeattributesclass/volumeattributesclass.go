// Package volumeattributesclass serves storage.k8s.io/v1 volumeattributesclasses: the attributes of a volume
// that can be changed during its life, such as its speed.
package volumeattributesclass

import (
	"context"

	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind VolumeAttributesClass.
func Kind() kit.Kind {
	doc := storagev1.VolumeAttributesClass{}.SwaggerDoc()
	return kit.Define(kit.Definition[*storagev1.VolumeAttributesClass]{
		GVK:        storagev1.SchemeGroupVersion.WithKind("VolumeAttributesClass"),
		Resource:   "volumeattributesclasses",
		Singular:   "volumeattributesclass",
		ShortNames: []string{"vac"},
		New:        func() *storagev1.VolumeAttributesClass { return &storagev1.VolumeAttributesClass{} },
		NewList:    func() runtime.Object { return &storagev1.VolumeAttributesClassList{} },

		ReturnDeleted:  true,
		Validate:       func(_ context.Context, c *storagev1.VolumeAttributesClass) field.ErrorList { return check(c) },
		ValidateUpdate: checkUpdate,
		Table: &kit.Table[*storagev1.VolumeAttributesClass]{
			Columns: []column.Definition{column.Name(), column.Text("DriverName", doc["driverName"]), column.Age()},
			Row: func(c *storagev1.VolumeAttributesClass) ([]any, []metav1.TableRowCondition) {
				return []any{c.Name, c.DriverName, column.Since(c.CreationTimestamp)}, nil
			},
		},
	})
}

func check(c *storagev1.VolumeAttributesClass) field.ErrorList {
	parameters := field.NewPath("parameters")
	faults := validate.InOrder(
		validate.Meta(&c.ObjectMeta, false, apivalidation.NameIsDNSSubdomain),
		validate.DriverName(c.DriverName, field.NewPath("driverName")),
		validate.DriverParameters(c.Parameters, parameters),
	)
	if len(c.Parameters) == 0 {
		faults = append(faults, field.Required(parameters, "must contain at least one key/value pair"))
	}
	return faults
}

func checkUpdate(_ context.Context, c, old *storagev1.VolumeAttributesClass) field.ErrorList {
	faults := validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	if c.DriverName != old.DriverName {
		faults = append(faults, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
	}
	if !apiequality.Semantic.DeepEqual(c.Parameters, old.Parameters) {
		faults = append(faults, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
	}
	return append(faults, check(c)...)
}
