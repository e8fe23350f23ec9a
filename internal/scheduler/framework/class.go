package framework

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"weak"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Class is the part of a Pod that rules about other Pods look at: namespace, labels, terms about other Pods,
// and whether the Pod is being deleted. The thousand Pods of a workload are one class, so that a rule is
// evaluated once and not a thousand times, and its selectors are parsed once.
//
// Classes are shared: two Pods are of the same class if they have the same *Class.
type Class struct {
	Namespace string
	Labels    labels.Set
	// Deleted is set when the Pods have a deletionTimestamp.
	Deleted bool
	// Affinity and AntiAffinity are the required terms about other Pods; the other two are the preferred ones.
	Affinity, AntiAffinity                   []PodTerm
	PreferredAffinity, PreferredAntiAffinity []WeightedPodTerm
	// Bad is set when a selector cannot be parsed. Such a Pod fits no node.
	Bad error
}

// PodTerm is one term of pod affinity or anti-affinity.
type PodTerm struct {
	Namespaces sets.Set[string]
	// NamespaceSelector selects further namespaces by their labels. Nil selects none.
	NamespaceSelector labels.Selector
	Selector          labels.Selector
	TopologyKey       string
}

// WeightedPodTerm is a preferred term.
type WeightedPodTerm struct {
	PodTerm
	Weight int64
}

// HasAffinity reports whether the Pods have any term about other Pods.
func (c *Class) HasAffinity() bool {
	return len(c.Affinity)+len(c.AntiAffinity)+len(c.PreferredAffinity)+len(c.PreferredAntiAffinity) > 0
}

// Matches reports whether the term selects the Pods of a class.
func (t *PodTerm) Matches(c *Class, namespaces Namespaces) bool {
	if !t.Namespaces.Has(c.Namespace) && (t.NamespaceSelector == nil || !t.NamespaceSelector.Matches(namespaces.Labels(c.Namespace))) {
		return false
	}
	return t.Selector.Matches(c.Labels)
}

// classes holds the classes in use. An entry is removed after its class was garbage collected.
var classes = struct {
	sync.Mutex
	all map[string]weak.Pointer[Class]
}{all: map[string]weak.Pointer[Class]{}}

// classOf returns the class of a Pod.
func classOf(pod *corev1.Pod) *Class {
	key := classKey(pod)
	classes.Lock()
	defer classes.Unlock()
	if c := classes.all[key].Value(); c != nil {
		return c
	}
	c := newClass(pod)
	classes.all[key] = weak.Make(c)
	runtime.AddCleanup(c, forgetClass, key)
	return c
}

// forgetClass removes a key whose class was collected, unless the key has a new class.
func forgetClass(key string) {
	classes.Lock()
	defer classes.Unlock()
	if classes.all[key].Value() == nil {
		delete(classes.all, key)
	}
}

// classKey returns a key that is equal for two Pods exactly if they are of the same class.
func classKey(pod *corev1.Pod) string {
	var b strings.Builder
	b.WriteString(pod.Namespace)
	if pod.DeletionTimestamp != nil {
		b.WriteByte('-')
	}
	for _, key := range slices.Sorted(maps.Keys(pod.Labels)) {
		b.WriteByte('\n')
		b.WriteString(key)
		b.WriteByte('=')
		b.WriteString(pod.Labels[key])
	}
	if a := pod.Spec.Affinity; a != nil && (a.PodAffinity != nil || a.PodAntiAffinity != nil) {
		// The wire form holds everything in a fixed order. Marshaling into memory does not fail.
		terms, _ := (&corev1.Affinity{PodAffinity: a.PodAffinity, PodAntiAffinity: a.PodAntiAffinity}).Marshal()
		b.WriteByte('\n')
		b.Write(terms)
	}
	return b.String()
}

func newClass(pod *corev1.Pod) *Class {
	c := &Class{Namespace: pod.Namespace, Labels: pod.Labels, Deleted: pod.DeletionTimestamp != nil}
	if a := pod.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			c.Affinity = c.terms(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
			c.PreferredAffinity = c.weighted(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		}
		if a.PodAntiAffinity != nil {
			c.AntiAffinity = c.terms(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
			c.PreferredAntiAffinity = c.weighted(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		}
	}
	return c
}

func (c *Class) terms(in []corev1.PodAffinityTerm) []PodTerm {
	out := make([]PodTerm, 0, len(in))
	for i := range in {
		out = append(out, c.term(&in[i]))
	}
	return out
}

func (c *Class) weighted(in []corev1.WeightedPodAffinityTerm) []WeightedPodTerm {
	out := make([]WeightedPodTerm, 0, len(in))
	for i := range in {
		out = append(out, WeightedPodTerm{PodTerm: c.term(&in[i].PodAffinityTerm), Weight: int64(in[i].Weight)})
	}
	return out
}

// term parses one term. A term without namespaces means the Pod's own namespace. The API server has already
// merged matchLabelKeys into the selector.
func (c *Class) term(in *corev1.PodAffinityTerm) PodTerm {
	t := PodTerm{TopologyKey: in.TopologyKey, Namespaces: sets.New(in.Namespaces...)}
	if len(in.Namespaces) == 0 && in.NamespaceSelector == nil {
		t.Namespaces.Insert(c.Namespace)
	}
	t.Selector = c.selector(in.LabelSelector)
	if in.NamespaceSelector != nil {
		t.NamespaceSelector = c.selector(in.NamespaceSelector)
	}
	return t
}

func (c *Class) selector(in *metav1.LabelSelector) labels.Selector {
	s, err := metav1.LabelSelectorAsSelector(in)
	if err != nil {
		c.Bad = fmt.Errorf("read a label selector of a pod of namespace %s: %w", c.Namespace, err)
		return labels.Nothing()
	}
	return s
}
