// Package oracletest checks the scheduler's decisions independently. An oracle decides by brute force, directly
// on the objects and without any of the scheduler's code, whether a Pod may go to a node. Generators make
// random nodes and Pods to ask it about.
package oracletest

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Oracle knows a cluster.
type Oracle struct {
	Nodes      map[string]*corev1.Node
	Pods       map[string]*corev1.Pod // placed Pods, by a unique name
	Namespaces map[string]labels.Set
}

func (o *Oracle) on(node string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range o.Pods {
		if p.Spec.NodeName == node {
			out = append(out, p)
		}
	}
	return out
}

// Fits reports whether the Pod may go to the node.
func (o *Oracle) Fits(p *corev1.Pod, node *corev1.Node) bool {
	return o.Broken(p, node) == "" && o.affinity(p, node) && o.spread(p, node)
}

// Broken returns the name of a rule that the Pod would break on the node, or "" if there is none. It covers the
// rules that the end of other Pods cannot break: a placement that obeyed them when it was decided still does
// when it is carried out.
func (o *Oracle) Broken(p *corev1.Pod, node *corev1.Node) string {
	cordoned := node.Spec.Unschedulable && !tolerated(p, corev1.Taint{Key: "node.kubernetes.io/unschedulable", Effect: "NoSchedule"})
	switch {
	case !o.resources(p, node):
		return "resources"
	case !o.ports(p, node):
		return "host ports"
	case keepsOff(p, node):
		return "taints"
	case cordoned:
		return "unschedulable"
	case !selected(p, node):
		return "node affinity"
	case !o.antiAffinity(p, node):
		return "anti-affinity"
	}
	return ""
}

func requestOf(p *corev1.Pod, name corev1.ResourceName) int64 {
	amount := func(list corev1.ResourceList) int64 {
		q := list[name]
		return q.MilliValue()
	}
	var sum, most, sidecars int64
	for _, c := range p.Spec.Containers {
		sum += amount(c.Resources.Requests)
	}
	for _, c := range p.Spec.InitContainers {
		n := amount(c.Resources.Requests)
		if c.RestartPolicy != nil {
			sidecars += n
			most = max(most, sidecars)
			continue
		}
		most = max(most, n+sidecars)
	}
	return max(sum+sidecars, most) + amount(p.Spec.Overhead)
}

func (o *Oracle) resources(p *corev1.Pod, node *corev1.Node) bool {
	if int64(len(o.on(node.Name)))+1 > node.Status.Allocatable.Pods().Value() {
		return false
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, "example.com/thing"} {
		sum := requestOf(p, name)
		if sum == 0 {
			continue
		}
		for _, other := range o.on(node.Name) {
			sum += requestOf(other, name)
		}
		if has := node.Status.Allocatable[name]; sum > has.MilliValue() {
			return false
		}
	}
	return true
}

func (o *Oracle) ports(p *corev1.Pod, node *corev1.Node) bool {
	for _, other := range o.on(node.Name) {
		for _, a := range p.Spec.Containers[0].Ports {
			for _, b := range other.Spec.Containers[0].Ports {
				if a.HostPort != 0 && a.HostPort == b.HostPort && (a.HostIP == "" || b.HostIP == "" || a.HostIP == b.HostIP) {
					return false
				}
			}
		}
	}
	return true
}

func tolerated(p *corev1.Pod, taint corev1.Taint) bool {
	return slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool {
		return (t.Effect == "" || t.Effect == taint.Effect) && (t.Key == "" && t.Operator == "Exists" || t.Key == taint.Key &&
			(t.Operator == "Exists" || t.Value == taint.Value))
	})
}

// keepsOff reports whether a taint keeps the Pod off the node.
func keepsOff(p *corev1.Pod, node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Effect != "PreferNoSchedule" && !tolerated(p, t) })
}

func selected(p *corev1.Pod, node *corev1.Node) bool {
	for k, v := range p.Spec.NodeSelector {
		if node.Labels[k] != v {
			return false
		}
	}
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		ok := true
		for _, e := range term.MatchExpressions {
			value, has := node.Labels[e.Key]
			switch e.Operator {
			case corev1.NodeSelectorOpIn:
				ok = ok && has && slices.Contains(e.Values, value)
			case corev1.NodeSelectorOpNotIn:
				ok = ok && !(has && slices.Contains(e.Values, value))
			case corev1.NodeSelectorOpExists:
				ok = ok && has
			}
		}
		for _, f := range term.MatchFields {
			ok = ok && slices.Contains(f.Values, node.Name)
		}
		if ok {
			return true
		}
	}
	return false
}

// about reports whether a term of owner selects the other Pod.
func (o *Oracle) about(owner *corev1.Pod, t corev1.PodAffinityTerm, other *corev1.Pod) bool {
	in := slices.Contains(t.Namespaces, other.Namespace) || len(t.Namespaces) == 0 && t.NamespaceSelector == nil && owner.Namespace == other.Namespace
	if t.NamespaceSelector != nil {
		s, _ := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
		in = in || s.Matches(o.Namespaces[other.Namespace])
	}
	s, _ := metav1.LabelSelectorAsSelector(t.LabelSelector)
	return in && s.Matches(labels.Set(other.Labels))
}

func sameDomain(a, b *corev1.Node, key string) bool {
	x, ok1 := a.Labels[key]
	y, ok2 := b.Labels[key]
	return ok1 && ok2 && x == y
}

func required(p *corev1.Pod) (affinity, anti []corev1.PodAffinityTerm) {
	if a := p.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			affinity = a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		}
		if a.PodAntiAffinity != nil {
			anti = a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		}
	}
	return affinity, anti
}

func (o *Oracle) affinity(p *corev1.Pod, node *corev1.Node) bool {
	terms, _ := required(p)
	if len(terms) == 0 {
		return true
	}
	all := func(other *corev1.Pod) bool {
		return !slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return !o.about(p, t, other) })
	}
	anywhere, everyTerm := false, true
	for _, t := range terms {
		if _, ok := node.Labels[t.TopologyKey]; !ok {
			return false
		}
		here := false
		for _, other := range o.Pods {
			at := o.Nodes[other.Spec.NodeName]
			if at == nil || !all(other) {
				continue
			}
			here = here || sameDomain(node, at, t.TopologyKey)
			for _, u := range terms {
				_, ok := at.Labels[u.TopologyKey]
				anywhere = anywhere || ok
			}
		}
		everyTerm = everyTerm && here
	}
	return everyTerm || !anywhere && all(p)
}

func (o *Oracle) antiAffinity(p *corev1.Pod, node *corev1.Node) bool {
	_, anti := required(p)
	for _, other := range o.Pods {
		at := o.Nodes[other.Spec.NodeName]
		if at == nil {
			continue
		}
		for _, t := range anti {
			if o.about(p, t, other) && sameDomain(node, at, t.TopologyKey) {
				return false
			}
		}
		_, theirs := required(other)
		for _, t := range theirs {
			if o.about(other, t, p) && sameDomain(node, at, t.TopologyKey) {
				return false
			}
		}
	}
	return true
}

func (o *Oracle) spread(p *corev1.Pod, node *corev1.Node) bool {
	var hard []corev1.TopologySpreadConstraint
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			hard = append(hard, c)
		}
	}
	for _, c := range hard {
		if !o.spreadBy(p, node, c, hard) {
			return false
		}
	}
	return true
}

func (o *Oracle) spreadBy(p *corev1.Pod, node *corev1.Node, c corev1.TopologySpreadConstraint, all []corev1.TopologySpreadConstraint) bool {
	value, ok := node.Labels[c.TopologyKey]
	if !ok {
		return false
	}
	selector, _ := metav1.LabelSelectorAsSelector(c.LabelSelector)
	same := func(q *corev1.Pod) bool {
		for _, key := range c.MatchLabelKeys {
			if v, has := p.Labels[key]; has && q.Labels[key] != v {
				return false
			}
		}
		return selector.Matches(labels.Set(q.Labels))
	}
	domains := map[string]int{}
	for _, n := range o.Nodes {
		hasAll := !slices.ContainsFunc(all, func(other corev1.TopologySpreadConstraint) bool { _, has := n.Labels[other.TopologyKey]; return !has })
		honorsAffinity := c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
		honorsTaints := c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
		if !hasAll || honorsAffinity && !selected(p, n) || honorsTaints && keepsOff(p, n) {
			continue
		}
		domains[n.Labels[c.TopologyKey]] += 0
		for _, other := range o.on(n.Name) {
			if other.Namespace == p.Namespace && other.DeletionTimestamp == nil && same(other) {
				domains[n.Labels[c.TopologyKey]]++
			}
		}
	}
	least := 1 << 30
	for _, n := range domains {
		least = min(least, n)
	}
	if c.MinDomains != nil && len(domains) < int(*c.MinDomains) || len(domains) == 0 {
		least = 0
	}
	skew := domains[value] - least
	if same(p) {
		skew++
	}
	return skew <= int(c.MaxSkew)
}
