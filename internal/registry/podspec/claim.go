package podspec

import (
	"reflect"
	"slices"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// ClaimLenience says what the spec of a stored volume claim may keep in an update. The zero value is for new
// claims.
type ClaimLenience struct {
	SelectorValues  bool // label values in the selector that are none
	DataSourceGroup bool // an API group of a data source that is no domain
}

// claimTemplate judges the claim that is made for an ephemeral volume. Of its metadata only labels and
// annotations are used.
func (c *checker) claimTemplate(t *corev1.PersistentVolumeClaimTemplate, at *field.Path) {
	meta := at.Child("metadata")
	c.Add(apivalidation.ValidateAnnotations(t.Annotations, meta.Child("annotations"))...)
	c.Add(metavalidation.ValidateLabels(t.Labels, meta.Child("labels"))...)
	c.onlyFields(t.ObjectMeta, []string{"Annotations", "Labels"}, "cannot be set", meta)
	c.Add(CheckClaimSpec(&t.Spec, ClaimLenience{}, at.Child("spec"))...)
}

// onlyFields forbids every field of a struct that is set but not in the list.
func (c *checker) onlyFields(value any, allowed []string, detail string, at *field.Path) {
	v := reflect.ValueOf(value)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		// An empty list that is not nil counts as set: the rule compares with the zero value of the type.
		if slices.Contains(allowed, f.Name) || reflect.DeepEqual(v.Field(i).Interface(), reflect.Zero(f.Type).Interface()) {
			continue
		}
		c.Forbidden(at.Child(lowerFirst(f.Name)), detail)
	}
}

func lowerFirst(name string) string {
	runes := []rune(name)
	runes[0] = unicode.ToLower(runes[0])
	return string(runes)
}

// CheckClaimSpec returns every fault in the spec of a persistent volume claim.
func CheckClaimSpec(s *corev1.PersistentVolumeClaimSpec, lenient ClaimLenience, at *field.Path) field.ErrorList {
	c := &checker{}
	if len(s.AccessModes) == 0 {
		c.Required(at.Child("accessModes"), "at least 1 access mode is required")
	}
	if s.Selector != nil {
		options := metavalidation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: lenient.SelectorValues}
		c.Add(metavalidation.ValidateLabelSelector(s.Selector, options, at.Child("selector"))...)
	}
	c.accessModes(s.AccessModes, at.Child("accessModes"))
	storage := at.Child("resources").Key(string(corev1.ResourceStorage))
	if size, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		c.Required(storage, "")
	} else if size.Sign() <= 0 {
		c.Invalid(storage, size.String(), "must be greater than zero")
	}
	c.className(s.StorageClassName, at.Child("storageClassName"))
	if s.VolumeMode != nil {
		fielderrors.OneOf(&c.List, at.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	}
	c.dataSources(s, lenient.DataSourceGroup, at)
	c.className(s.VolumeAttributesClassName, at.Child("volumeAttributesClassName"))
	return c.Errors()
}

func (c *checker) accessModes(modes []corev1.PersistentVolumeAccessMode, at *field.Path) {
	onePod, others := false, false
	for _, mode := range modes {
		known := fielderrors.OneOf(&c.List, at, mode, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)
		if mode == corev1.ReadWriteOncePod {
			onePod = true
		} else if known {
			others = true
		}
	}
	if onePod && others {
		c.Forbidden(at, "may not use ReadWriteOncePod with other access modes")
	}
}

func (c *checker) className(name *string, at *field.Path) {
	if name != nil && *name != "" {
		c.InvalidEach(at, *name, apivalidation.NameIsDNSSubdomain(*name, false))
	}
}

// dataSources judges what a claim is filled from; both fields that say it must agree.
func (c *checker) dataSources(s *corev1.PersistentVolumeClaimSpec, anyGroup bool, at *field.Path) {
	source, ref := s.DataSource, s.DataSourceRef
	if source != nil {
		c.dataSource(source.APIGroup, source.Kind, source.Name, anyGroup, at.Child("dataSource"))
	}
	crossed := false
	if ref != nil {
		c.dataSource(ref.APIGroup, ref.Kind, ref.Name, anyGroup, at.Child("dataSourceRef"))
		if crossed = ref.Namespace != nil && *ref.Namespace != ""; crossed {
			c.InvalidEach(at.Child("dataSourceRef", "namespace"), *ref.Namespace, apivalidation.ValidateNamespaceName(*ref.Namespace, false))
		}
	}
	if source == nil || ref == nil {
		return
	}
	same := reflect.DeepEqual(source.APIGroup, ref.APIGroup) && source.Kind == ref.Kind && source.Name == ref.Name
	switch {
	case crossed:
		c.Invalid(at, at.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified")
	case !same:
		c.Invalid(at, at.Child("dataSource"), "must match dataSourceRef")
	}
}

func (c *checker) dataSource(group *string, kind, name string, anyGroup bool, at *field.Path) {
	c.needs(name, at.Child("name"))
	c.needs(kind, at.Child("kind"))
	none := group == nil || *group == ""
	if none && kind != "PersistentVolumeClaim" {
		c.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
	}
	if !none && !anyGroup {
		c.dnsSubdomain(*group, at.Child("apiGroup"))
	}
}
