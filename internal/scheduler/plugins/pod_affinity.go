package plugins

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/scheduler/framework"
)

// InterPodAffinity restricts a Pod to the domains of the Pods that its required affinity selects. It keeps it
// out of the domains of the Pods that its anti-affinity selects and of those whose anti-affinity selects it.
// Preferred terms attract and repel in the same way. A domain is the set of nodes with one value of a label.
type InterPodAffinity struct {
	Namespaces framework.Namespaces
	// HardWeight is the weight, in scores, of the required affinity of running Pods towards this one.
	HardWeight int64
	// IgnoreExisting leaves the preferred terms of running Pods out of the scores if the Pod has none itself.
	IgnoreExisting bool
}

var (
	refusedAffinity     = framework.RefuseForGood(InterPodAffinityName, "node(s) didn't match pod affinity rules")
	refusedAntiAffinity = framework.Refuse(InterPodAffinityName, "node(s) didn't match pod anti-affinity rules")
	refusedByOthers     = framework.Refuse(InterPodAffinityName, "node(s) didn't satisfy existing pods anti-affinity rules")
)

// Name implements framework.Plugin.
func (*InterPodAffinity) Name() string { return InterPodAffinityName }

// domain is the set of nodes that have a label with this value.
type domain struct{ key, value string }

// counts is a number of Pods for each domain.
type counts map[domain]int

// add adds n Pods of the node; n may be negative.
func (c counts) add(node *corev1.Node, key string, n int) {
	value, ok := node.Labels[key]
	if !ok {
		return
	}
	d := domain{key, value}
	if c[d] += n; c[d] == 0 {
		delete(c, d)
	}
}

// affinityState is what one decision knows about the running Pods.
type affinityState struct {
	// others counts the Pods whose anti-affinity selects this one, affinity those that all its affinity terms
	// select, and anti those that one of its anti-affinity terms selects, each in the domains of the terms'
	// keys.
	others, affinity, anti counts
	// relation caches how each class relates to the Pod.
	relation map[*framework.Class]relation
}

// relation is how the Pods of a class relate to the Pod that is being decided on.
type relation struct {
	repels   []string // keys of the class's anti-affinity terms that select the Pod
	attracts bool     // every affinity term of the Pod selects the class
	repelled []string // keys of the Pod's anti-affinity terms that select the class
}

// Clone implements framework.State.
func (s *affinityState) Clone() framework.State {
	return &affinityState{
		others: maps.Clone(s.others), affinity: maps.Clone(s.affinity), anti: maps.Clone(s.anti), relation: maps.Clone(s.relation),
	}
}

// PreFilter implements framework.PreFilterer.
func (a *InterPodAffinity) PreFilter(pod *framework.PodInfo, snapshot *framework.Snapshot) framework.PreFilter {
	own := len(pod.Class.Affinity)+len(pod.Class.AntiAffinity) > 0
	if !own && !snapshot.AnyAntiAffinity() {
		return framework.PreFilter{Skip: true}
	}
	s := &affinityState{others: counts{}, affinity: counts{}, anti: counts{}, relation: map[*framework.Class]relation{}}
	for _, node := range snapshot.Nodes {
		if !own && node.AntiAffinity == 0 {
			continue
		}
		for _, c := range node.Classes {
			a.count(s, pod, c.Class, node.Node, c.N)
		}
	}
	if !own && len(s.others) == 0 {
		return framework.PreFilter{Skip: true}
	}
	return framework.PreFilter{State: s}
}

// count adds n Pods of the class on the node; n may be negative.
func (a *InterPodAffinity) count(s *affinityState, pod *framework.PodInfo, class *framework.Class, node *corev1.Node, n int) {
	r, ok := s.relation[class]
	if !ok {
		r = a.relate(pod, class)
		s.relation[class] = r
	}
	for _, key := range r.repels {
		s.others.add(node, key, n)
	}
	if r.attracts {
		for i := range pod.Class.Affinity {
			s.affinity.add(node, pod.Class.Affinity[i].TopologyKey, n)
		}
	}
	for _, key := range r.repelled {
		s.anti.add(node, key, n)
	}
}

func (a *InterPodAffinity) relate(pod *framework.PodInfo, class *framework.Class) relation {
	var r relation
	for i := range class.AntiAffinity {
		if t := &class.AntiAffinity[i]; t.Matches(pod.Class, a.Namespaces) {
			r.repels = append(r.repels, t.TopologyKey)
		}
	}
	r.attracts = a.matchesAll(pod.Class.Affinity, class)
	for i := range pod.Class.AntiAffinity {
		if t := &pod.Class.AntiAffinity[i]; t.Matches(class, a.Namespaces) {
			r.repelled = append(r.repelled, t.TopologyKey)
		}
	}
	return r
}

// matchesAll reports whether there are terms and every one selects the class.
func (a *InterPodAffinity) matchesAll(terms []framework.PodTerm, class *framework.Class) bool {
	for i := range terms {
		if !terms[i].Matches(class, a.Namespaces) {
			return false
		}
	}
	return len(terms) > 0
}

// matchesAny reports whether some term selects the class.
func (a *InterPodAffinity) matchesAny(terms []framework.PodTerm, class *framework.Class) bool {
	for i := range terms {
		if terms[i].Matches(class, a.Namespaces) {
			return true
		}
	}
	return false
}

// PodAdded implements framework.Adjuster.
func (a *InterPodAffinity) PodAdded(state framework.State, pod, added *framework.PodInfo, node *framework.NodeInfo) {
	if s, ok := state.(*affinityState); ok {
		a.count(s, pod, added.Class, node.Node, 1)
	}
}

// PodRemoved implements framework.Adjuster.
func (a *InterPodAffinity) PodRemoved(state framework.State, pod, removed *framework.PodInfo, node *framework.NodeInfo) {
	if s, ok := state.(*affinityState); ok {
		a.count(s, pod, removed.Class, node.Node, -1)
	}
}

// Filter implements framework.Filterer.
func (a *InterPodAffinity) Filter(state framework.State, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	s, ok := state.(*affinityState)
	if !ok {
		return nil
	}
	if !a.attracted(s, pod, node.Node) {
		return refusedAffinity
	}
	for i := range pod.Class.AntiAffinity {
		if s.anti.has(node.Node, pod.Class.AntiAffinity[i].TopologyKey) {
			return refusedAntiAffinity
		}
	}
	if len(s.others) > 0 && s.others.hasAny(node.Node) {
		return refusedByOthers
	}
	return nil
}

// attracted reports whether every domain that the Pod's affinity names has a Pod that all its terms select. If
// the whole cluster has none, and the terms select the Pod itself, the Pod may be the first of its group and go
// anywhere where the domains exist.
func (a *InterPodAffinity) attracted(s *affinityState, pod *framework.PodInfo, node *corev1.Node) bool {
	found := true
	for i := range pod.Class.Affinity {
		key := pod.Class.Affinity[i].TopologyKey
		if _, ok := node.Labels[key]; !ok {
			return false
		}
		found = found && s.affinity.has(node, key)
	}
	return found || len(s.affinity) == 0 && a.matchesAll(pod.Class.Affinity, pod.Class)
}

func (c counts) has(node *corev1.Node, key string) bool {
	value, ok := node.Labels[key]
	return ok && c[domain{key, value}] > 0
}

// hasAny reports whether the node is in any of the domains.
func (c counts) hasAny(node *corev1.Node) bool {
	for key, value := range node.Labels {
		if c[domain{key, value}] > 0 {
			return true
		}
	}
	return false
}

// Hints implements framework.Hinter.
func (a *InterPodAffinity) Hints() []framework.Hint {
	return []framework.Hint{
		{Kinds: framework.OwnLabels | framework.NamespaceLabels},
		{Kinds: framework.PodPlaced | framework.PodLabels | framework.PodGone, Helps: a.podHelps},
		{Kinds: framework.NodeAdd | framework.NodeLabels, Helps: a.nodeHelps},
	}
}

// podHelps reports whether a Pod that was added, changed or removed may help: one that attracts was added, or
// one that repels was removed.
func (a *InterPodAffinity) podHelps(pod *framework.PodInfo, e framework.Event) bool {
	old, _ := e.Old.(*framework.PodInfo)
	now, _ := e.New.(*framework.PodInfo)
	attracted := func(p *framework.PodInfo) bool { return p != nil && a.matchesAll(pod.Class.Affinity, p.Class) }
	repelled := func(p *framework.PodInfo) bool {
		return p != nil && (a.matchesAny(pod.Class.AntiAffinity, p.Class) || a.matchesAny(p.Class.AntiAffinity, pod.Class))
	}
	return attracted(now) && !attracted(old) || repelled(old) && !repelled(now)
}

// nodeHelps reports whether a node that was added or changed its labels may help. Changed labels always may,
// because the terms of any running Pod may refer to them.
func (a *InterPodAffinity) nodeHelps(pod *framework.PodInfo, e framework.Event) bool {
	node, ok := e.New.(*corev1.Node)
	if !ok || e.Old != nil || len(pod.Class.Affinity) == 0 {
		return true
	}
	for i := range pod.Class.Affinity {
		if _, has := node.Labels[pod.Class.Affinity[i].TopologyKey]; !has {
			return false
		}
	}
	return true
}

// Explain implements framework.Explainer.
func (a *InterPodAffinity) Explain(state framework.State, pod *framework.PodInfo, node *framework.NodeInfo) []framework.Detail {
	s, ok := state.(*affinityState)
	if !ok {
		return nil
	}
	var out []framework.Detail
	if !a.attracted(s, pod, node.Node) {
		out = append(out, framework.Detail{
			Plugin: InterPodAffinityName, Reason: refusedAffinity.Message(),
			Text: "no pod that the required pod affinity selects runs in the node's " + topologyOf(pod.Class.Affinity),
			Fix:  "start such a pod there first, or make the affinity preferred",
		})
	}
	for i := range pod.Class.AntiAffinity {
		t := &pod.Class.AntiAffinity[i]
		if !s.anti.has(node.Node, t.TopologyKey) {
			continue
		}
		d := framework.Detail{
			Plugin: InterPodAffinityName, Reason: refusedAntiAffinity.Message(),
			Text: fmt.Sprintf("a pod matching %q runs in %s=%s", t.Selector, t.TopologyKey, node.Node.Labels[t.TopologyKey]),
			Fix:  "add a node in another " + t.TopologyKey + ", or make the anti-affinity preferred",
		}
		for _, p := range node.Pods {
			if t.Matches(p.Class, a.Namespaces) {
				d.Holders = append(d.Holders, framework.Holder{Pod: p.Name().String()})
			}
		}
		out = append(out, d)
	}
	if s.others.hasAny(node.Node) {
		d := framework.Detail{
			Plugin: InterPodAffinityName, Reason: refusedByOthers.Message(),
			Text: "the anti-affinity of a pod that runs in the node's domain keeps this one off",
		}
		for _, p := range node.Pods {
			if a.matchesAny(p.Class.AntiAffinity, pod.Class) {
				d.Holders = append(d.Holders, framework.Holder{Pod: p.Name().String()})
			}
		}
		out = append(out, d)
	}
	return out
}

func topologyOf(terms []framework.PodTerm) string {
	if len(terms) == 1 {
		return terms[0].TopologyKey
	}
	return "domains"
}
