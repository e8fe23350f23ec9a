package podspec

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

func (c *checker) affinity(at *field.Path) {
	a := c.spec.Affinity
	if a == nil {
		return
	}
	if n := a.NodeAffinity; n != nil {
		c.nodeAffinity(n, at.Child("nodeAffinity"))
	}
	if p := a.PodAffinity; p != nil {
		c.podAffinity(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAffinity"))
	}
	if p := a.PodAntiAffinity; p != nil {
		c.podAffinity(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAntiAffinity"))
	}
}

const (
	required  = "requiredDuringSchedulingIgnoredDuringExecution"
	preferred = "preferredDuringSchedulingIgnoredDuringExecution"
)

func (c *checker) nodeAffinity(n *corev1.NodeAffinity, at *field.Path) {
	if selector := n.RequiredDuringSchedulingIgnoredDuringExecution; selector != nil {
		c.Add(checkNodeSelector(selector, c.lenient.nodeAffinityValues, at.Child(required))...)
	}
	for i := range n.PreferredDuringSchedulingIgnoredDuringExecution {
		term, path := &n.PreferredDuringSchedulingIgnoredDuringExecution[i], at.Child(preferred).Index(i)
		c.weight(term.Weight, path.Child("weight"))
		// A value that no node can have does no harm here.
		nodeSelectorTerm(&c.List, &term.Preference, true, path.Child("preference"))
	}
}

func (c *checker) weight(w int32, at *field.Path) {
	if w <= 0 || w > 100 {
		c.Invalid(at, w, "must be in the range 1-100")
	}
}

// CheckNodeSelector returns every fault of a node selector.
func CheckNodeSelector(s *corev1.NodeSelector, at *field.Path) field.ErrorList {
	return checkNodeSelector(s, false, at)
}

func checkNodeSelector(s *corev1.NodeSelector, anyValue bool, at *field.Path) field.ErrorList {
	var l fielderrors.List
	terms := at.Child("nodeSelectorTerms")
	if len(s.NodeSelectorTerms) == 0 {
		l.Required(terms, "must have at least one node selector term")
	}
	for i := range s.NodeSelectorTerms {
		nodeSelectorTerm(&l, &s.NodeSelectorTerms[i], anyValue, terms.Index(i))
	}
	return l.Errors()
}

func nodeSelectorTerm(l *fielderrors.List, t *corev1.NodeSelectorTerm, anyValue bool, at *field.Path) {
	for i := range t.MatchExpressions {
		labelRequirement(l, &t.MatchExpressions[i], anyValue, at.Child("matchExpressions").Index(i))
	}
	for i := range t.MatchFields {
		fieldRequirement(l, &t.MatchFields[i], at.Child("matchFields").Index(i))
	}
}

func labelRequirement(l *fielderrors.List, r *corev1.NodeSelectorRequirement, anyValue bool, at *field.Path) {
	values := at.Child("values")
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			l.Required(values, "must be specified when `operator` is 'In' or 'NotIn'")
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			l.Forbidden(values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 {
			l.Required(values, "must be specified single value when `operator` is 'Lt' or 'Gt'")
		}
	default:
		l.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator")
	}
	l.Add(metavalidation.ValidateLabelName(r.Key, at.Child("key"))...)
	if anyValue {
		return
	}
	for i, value := range r.Values {
		l.InvalidEach(values.Index(i), value, validation.IsValidLabelValue(value))
	}
}

// fieldRequirement judges a requirement on a node's field; only its name can be asked for.
func fieldRequirement(l *fielderrors.List, r *corev1.NodeSelectorRequirement, at *field.Path) {
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) != 1 {
			l.Required(at.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector")
		}
	default:
		l.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator")
	}
	if r.Key != metav1.ObjectNameField {
		l.Invalid(at.Child("key"), r.Key, "not a valid field selector key")
		return
	}
	for i, value := range r.Values {
		l.InvalidEach(at.Child("values").Index(i), value, apivalidation.NameIsDNSSubdomain(value, false))
	}
}

func (c *checker) podAffinity(must []corev1.PodAffinityTerm, should []corev1.WeightedPodAffinityTerm, at *field.Path) {
	for i := range must {
		c.podAffinityTerm(&must[i], at.Child(required).Index(i))
	}
	for i := range should {
		path := at.Child(preferred).Index(i)
		c.weight(should[i].Weight, path.Child("weight"))
		c.podAffinityTerm(&should[i].PodAffinityTerm, path.Child("podAffinityTerm"))
	}
}

func (c *checker) podAffinityTerm(t *corev1.PodAffinityTerm, at *field.Path) {
	affinitySelectors(&c.List, t, c.lenient.selectorValues, at)
	for _, name := range t.Namespaces {
		c.InvalidEach(at.Child("namespace"), name, apivalidation.ValidateNamespaceName(name, false))
	}
	labelKeys(&c.List, at, t.MatchLabelKeys, t.MismatchLabelKeys, t.LabelSelector)
	if t.TopologyKey == "" {
		c.Required(at.Child("topologyKey"), "can not be empty")
	}
	c.Add(metavalidation.ValidateLabelName(t.TopologyKey, at.Child("topologyKey"))...)
}

func affinitySelectors(l *fielderrors.List, t *corev1.PodAffinityTerm, anyValue bool, at *field.Path) {
	options := metavalidation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: anyValue}
	l.Add(metavalidation.ValidateLabelSelector(t.LabelSelector, options, at.Child("labelSelector"))...)
	l.Add(metavalidation.ValidateLabelSelector(t.NamespaceSelector, options, at.Child("namespaceSelector"))...)
}

// labelKeys judges the keys whose values are taken from the Pod itself and put into the selector: keys to
// match and keys not to match. When this runs, the selector already has them; a key that is there twice was
// also written by the user.
func labelKeys(l *fielderrors.List, at *field.Path, match, mismatch []string, selector *metav1.LabelSelector) {
	keyNames(l, match, selector, at.Child("matchLabelKeys"))
	keyNames(l, mismatch, selector, at.Child("mismatchLabelKeys"))
	if selector != nil {
		index := map[string]int{}
		for i, key := range match {
			index[key] = i
		}
		seen := sets.KeySet(selector.MatchLabels)
		for _, e := range selector.MatchExpressions {
			if i, ok := index[e.Key]; ok && seen.Has(e.Key) {
				l.Invalid(at.Index(i), e.Key, "exists in both matchLabelKeys and labelSelector")
			}
			seen.Insert(e.Key)
		}
	}
	excluded := sets.New(mismatch...)
	for i, key := range match {
		if excluded.Has(key) {
			l.Invalid(at.Child("matchLabelKeys").Index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys")
		}
	}
}

func keyNames(l *fielderrors.List, keys []string, selector *metav1.LabelSelector, at *field.Path) {
	if len(keys) == 0 {
		return
	}
	if selector == nil {
		l.Forbidden(at, "must not be specified when labelSelector is not set")
		return
	}
	for i, key := range keys {
		l.Add(metavalidation.ValidateLabelName(key, at.Index(i))...)
	}
}
