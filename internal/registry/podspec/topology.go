package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

func (c *checker) topologySpread(at *field.Path) {
	list := c.spec.TopologySpreadConstraints
	for i := range list {
		c.spreadConstraint(&list[i], list[i+1:], at.Index(i))
	}
}

// spreadConstraint judges a constraint; rest are those after it, which may not be of the same kind.
func (c *checker) spreadConstraint(t *corev1.TopologySpreadConstraint, rest []corev1.TopologySpreadConstraint, at *field.Path) {
	c.positive(t.MaxSkew, at.Child("maxSkew"))
	if t.TopologyKey == "" {
		c.Required(at.Child("topologyKey"), "can not be empty")
	}
	fielderrors.OneOf(&c.List, at.Child("whenUnsatisfiable"), t.WhenUnsatisfiable, corev1.DoNotSchedule, corev1.ScheduleAnyway)
	for i := range rest {
		if rest[i].TopologyKey == t.TopologyKey && rest[i].WhenUnsatisfiable == t.WhenUnsatisfiable {
			c.Duplicate(at.Child("{topologyKey, whenUnsatisfiable}"), fmt.Sprintf("{%v, %v}", t.TopologyKey, t.WhenUnsatisfiable))
			break
		}
	}
	if t.MinDomains != nil {
		c.positive(*t.MinDomains, at.Child("minDomains"))
		if t.WhenUnsatisfiable != corev1.DoNotSchedule {
			c.Invalid(at.Child("minDomains"), *t.MinDomains,
				fmt.Sprintf("can only use minDomains if whenUnsatisfiable=%s, not %s", corev1.DoNotSchedule, t.WhenUnsatisfiable))
		}
	}
	c.inclusion(t.NodeAffinityPolicy, at.Child("nodeAffinityPolicy"))
	c.inclusion(t.NodeTaintsPolicy, at.Child("nodeTaintsPolicy"))
	if c.lenient.spreadKeys {
		oldSpreadKeys(&c.List, t.MatchLabelKeys, t.LabelSelector, at.Child("matchLabelKeys"))
	} else {
		labelKeys(&c.List, at, t.MatchLabelKeys, nil, t.LabelSelector)
	}
	if !c.lenient.spreadSelector {
		c.Add(metavalidation.ValidateLabelSelector(t.LabelSelector, metavalidation.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
	}
}

func (c *checker) positive(n int32, at *field.Path) {
	if n <= 0 {
		c.Invalid(at, int64(n), "must be greater than zero")
	}
}

func (c *checker) inclusion(p *corev1.NodeInclusionPolicy, at *field.Path) {
	if p != nil {
		fielderrors.OneOf(&c.List, at, *p, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
	}
}

// oldSpreadKeys is the rule from the time when the keys were not put into the selector. An object that was
// stored under it stays under it.
func oldSpreadKeys(l *fielderrors.List, keys []string, selector *metav1.LabelSelector, at *field.Path) {
	if len(keys) == 0 {
		return
	}
	written := sets.New[string]()
	if selector == nil {
		l.Forbidden(at, "must not be specified when labelSelector is not set")
	} else {
		written = sets.KeySet(selector.MatchLabels)
		for _, e := range selector.MatchExpressions {
			written.Insert(e.Key)
		}
	}
	for i, key := range keys {
		l.Add(metavalidation.ValidateLabelName(key, at.Index(i))...)
		if written.Has(key) {
			l.Invalid(at.Index(i), key, "exists in both matchLabelKeys and labelSelector")
		}
	}
}

// MergeLabelKeys puts the Pod's own values of matchLabelKeys and mismatchLabelKeys into the selectors next to
// them. It runs once, when a Pod is made; without a selector, which matches nothing, there is nothing to do.
func MergeLabelKeys(pod *corev1.Pod) {
	labels := pod.Labels
	term := func(t *corev1.PodAffinityTerm) {
		mergeKeys(t.LabelSelector, t.MatchLabelKeys, metav1.LabelSelectorOpIn, labels)
		mergeKeys(t.LabelSelector, t.MismatchLabelKeys, metav1.LabelSelectorOpNotIn, labels)
	}
	terms := func(must []corev1.PodAffinityTerm, should []corev1.WeightedPodAffinityTerm) {
		for i := range should {
			term(&should[i].PodAffinityTerm)
		}
		for i := range must {
			term(&must[i])
		}
	}
	if a := pod.Spec.Affinity; a != nil {
		if p := a.PodAffinity; p != nil {
			terms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
		}
		if p := a.PodAntiAffinity; p != nil {
			terms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
		}
	}
	for i := range pod.Spec.TopologySpreadConstraints {
		t := &pod.Spec.TopologySpreadConstraints[i]
		mergeKeys(t.LabelSelector, t.MatchLabelKeys, metav1.LabelSelectorOpIn, labels)
	}
}

func mergeKeys(selector *metav1.LabelSelector, keys []string, op metav1.LabelSelectorOperator, labels map[string]string) {
	if selector == nil {
		return
	}
	for _, key := range keys {
		if value, ok := labels[key]; ok {
			selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: []string{value}})
		}
	}
}
