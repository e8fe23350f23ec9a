// Package storageclass serves storage.k8s.io/v1 storageclasses.
package storageclass

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kind returns the kind StorageClass.
func Kind() kit.Kind {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	return kit.Define(kit.Definition[*storagev1.StorageClass]{
		GVK:        storagev1.SchemeGroupVersion.WithKind("StorageClass"),
		Resource:   "storageclasses",
		Singular:   "storageclass",
		ShortNames: []string{"sc"},
		New:        func() *storagev1.StorageClass { return &storagev1.StorageClass{} },
		NewList:    func() runtime.Object { return &storagev1.StorageClassList{} },

		ReturnDeleted: true,
		Default: func(c *storagev1.StorageClass) {
			if c.ReclaimPolicy == nil {
				c.ReclaimPolicy = new(corev1.PersistentVolumeReclaimDelete)
			}
			if c.VolumeBindingMode == nil {
				c.VolumeBindingMode = new(storagev1.VolumeBindingImmediate)
			}
		},
		Validate:       check,
		ValidateUpdate: checkUpdate,
		Warn:           warn,
		Table: &kit.Table[*storagev1.StorageClass]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("Provisioner", doc["provisioner"]),
				column.Text("ReclaimPolicy", doc["reclaimPolicy"]),
				column.Text("VolumeBindingMode", doc["volumeBindingMode"]),
				column.Text("AllowVolumeExpansion", doc["allowVolumeExpansion"]),
				column.Age(),
			},
			Row:    row,
			InList: markDefault,
		},
	})
}

func row(c *storagev1.StorageClass) ([]any, []metav1.TableRowCondition) {
	policy, mode := string(corev1.PersistentVolumeReclaimDelete), string(storagev1.VolumeBindingImmediate)
	if c.ReclaimPolicy != nil {
		policy = string(*c.ReclaimPolicy)
	}
	if c.VolumeBindingMode != nil {
		mode = string(*c.VolumeBindingMode)
	}
	expands := c.AllowVolumeExpansion != nil && *c.AllowVolumeExpansion
	return []any{c.Name, c.Provisioner, policy, mode, expands, column.Since(c.CreationTimestamp)}, nil
}

// defaultAnnotations mark the class of claims that name none. Of several marked classes the newest applies.
var defaultAnnotations = []string{"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"}

// markDefault marks the default class in a list.
func markDefault(rows []metav1.TableRow) {
	var first *storagev1.StorageClass
	at := 0
	for i := range rows {
		c, ok := rows[i].Object.Object.(*storagev1.StorageClass)
		if !ok || !marked(c) {
			continue
		}
		newer := first == nil || c.CreationTimestamp.After(first.CreationTimestamp.Time)
		if newer || c.CreationTimestamp.Equal(&first.CreationTimestamp) && c.Name < first.Name {
			first, at = c, i
		}
	}
	if first != nil {
		rows[at].Cells[0] = first.Name + " (default)"
	}
}

func marked(c *storagev1.StorageClass) bool {
	for _, a := range defaultAnnotations {
		if c.Annotations[a] == "true" {
			return true
		}
	}
	return false
}

// warn warns about deprecated node labels.
func warn(_ context.Context, c, _ *storagev1.StorageClass) (warnings []string) {
	for i, term := range c.AllowedTopologies {
		for j, e := range term.MatchLabelExpressions {
			if what, old := validate.OldNodeLabel(e.Key); old {
				at := field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(j).Child("key")
				warnings = append(warnings, fmt.Sprintf("%s: %s", at, what))
			}
		}
	}
	return warnings
}

func check(_ context.Context, c *storagev1.StorageClass) field.ErrorList {
	return validate.InOrder(
		validate.Meta(&c.ObjectMeta, false, apivalidation.NameIsDNSSubdomain),
		validate.DriverName(c.Provisioner, field.NewPath("provisioner")),
		validate.DriverParameters(c.Parameters, field.NewPath("parameters")),
		checkModes(c),
		checkTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies")),
	)
}

func checkModes(c *storagev1.StorageClass) (faults field.ErrorList) {
	switch p := c.ReclaimPolicy; {
	case p == nil || *p == "" || *p == corev1.PersistentVolumeReclaimDelete || *p == corev1.PersistentVolumeReclaimRetain:
	default:
		faults = append(faults, field.NotSupported(field.NewPath("reclaimPolicy"), p, []string{string(corev1.PersistentVolumeReclaimDelete), string(corev1.PersistentVolumeReclaimRetain)}))
	}
	switch m := c.VolumeBindingMode; {
	case m == nil:
		faults = append(faults, field.Required(field.NewPath("volumeBindingMode"), ""))
	case *m != storagev1.VolumeBindingImmediate && *m != storagev1.VolumeBindingWaitForFirstConsumer:
		faults = append(faults, field.NotSupported(field.NewPath("volumeBindingMode"), m, []string{string(storagev1.VolumeBindingImmediate), string(storagev1.VolumeBindingWaitForFirstConsumer)}))
	}
	return faults
}

// checkTopologies requires terms, keys and values without duplicates.
func checkTopologies(terms []corev1.TopologySelectorTerm, path *field.Path) (faults field.ErrorList) {
	// Kubernetes starts with an empty entry for each term, so that an empty term is always a duplicate.
	before := make([]map[string]sets.Set[string], len(terms))
	for i, term := range terms {
		at := path.Index(i).Child("matchLabelExpressions")
		keys := map[string]sets.Set[string]{}
		for j, e := range term.MatchLabelExpressions {
			here, values := at.Index(j), sets.New[string]()
			if len(e.Values) == 0 {
				faults = append(faults, field.Required(here.Child("values"), ""))
			}
			for k, value := range e.Values {
				if values.Has(value) {
					faults = append(faults, field.Duplicate(here.Child("values").Index(k), value))
				}
				values.Insert(value)
			}
			faults = append(faults, metav1validation.ValidateLabelName(e.Key, here.Child("key"))...)
			if _, twice := keys[e.Key]; twice {
				faults = append(faults, field.Duplicate(here.Child("key"), e.Key))
			}
			keys[e.Key] = values
		}
		for _, other := range before {
			if apiequality.Semantic.DeepEqual(keys, other) {
				faults = append(faults, field.Duplicate(at, ""))
			}
		}
		before = append(before, keys)
	}
	return faults
}

func checkUpdate(ctx context.Context, c, old *storagev1.StorageClass) field.ErrorList {
	return validate.InOrder(
		check(ctx, c),
		validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta),
		validate.Same(c.Provisioner, old.Provisioner, field.NewPath("provisioner")),
		validate.Same(c.Parameters, old.Parameters, field.NewPath("parameters")),
		validate.Same(c.ReclaimPolicy, old.ReclaimPolicy, field.NewPath("reclaimPolicy")),
		validate.Same(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode")),
	)
}
