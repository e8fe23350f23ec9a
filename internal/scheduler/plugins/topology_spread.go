package plugins

import (
	"fmt"
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"podium.dev/podium/internal/scheduler/framework"
)

// PodTopologySpread keeps Pods spread over domains: no domain may exceed the one with the fewest selected Pods
// by more than the constraint's maxSkew.
type PodTopologySpread struct {
	// Defaults are the constraints of Pods that have none. They apply to the Pods of the same services and
	// owner.
	Defaults []corev1.TopologySpreadConstraint
	// SystemDefaults is set if Defaults are the built-in constraints, which do not require that nodes have all
	// the labels.
	SystemDefaults bool
	// Siblings returns a selector of the Pods with the same services and owner.
	Siblings func(*corev1.Pod) labels.Selector
}

// SystemSpread are the built-in default constraints.
var SystemSpread = []corev1.TopologySpreadConstraint{
	{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 3},
	{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 5},
}

var (
	refusedSpread      = framework.Refuse(PodTopologySpreadName, "node(s) didn't match pod topology spread constraints")
	refusedSpreadLabel = framework.RefuseForGood(PodTopologySpreadName, "node(s) didn't match pod topology spread constraints (missing required label)")
)

// Name implements framework.Plugin.
func (*PodTopologySpread) Name() string { return PodTopologySpreadName }

// constraint is a parsed constraint.
type constraint struct {
	key           string
	maxSkew       int
	minDomains    int
	selector      labels.Selector
	honorAffinity bool
	honorTaints   bool
	// self is set if the constraint selects the Pod itself.
	self bool
}

// constraints parses the Pod's constraints of a kind, or the default ones.
func (t *PodTopologySpread) constraints(pod *framework.PodInfo, kind corev1.UnsatisfiableConstraintAction) ([]constraint, error) {
	given := pod.Pod.Spec.TopologySpreadConstraints
	defaults := len(given) == 0
	if defaults {
		given = t.Defaults
	}
	var out []constraint
	var siblings labels.Selector
	for i := range given {
		if given[i].WhenUnsatisfiable != kind {
			continue
		}
		c, err := readConstraint(&given[i], pod.Pod)
		if err != nil {
			return nil, err
		}
		if defaults {
			if siblings == nil {
				siblings = t.Siblings(pod.Pod)
			}
			if siblings.Empty() {
				return nil, nil
			}
			c.selector = siblings
		}
		c.self = c.selector.Matches(pod.Class.Labels)
		out = append(out, c)
	}
	return out, nil
}

func readConstraint(in *corev1.TopologySpreadConstraint, pod *corev1.Pod) (constraint, error) {
	c := constraint{key: in.TopologyKey, maxSkew: int(in.MaxSkew), minDomains: 1, honorAffinity: true}
	var err error
	if c.selector, err = metav1.LabelSelectorAsSelector(in.LabelSelector); err != nil {
		return c, fmt.Errorf("read the selector of a topology spread constraint of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	same := labels.Set{}
	for _, key := range in.MatchLabelKeys {
		if value, ok := pod.Labels[key]; ok {
			same[key] = value
		}
	}
	if requirements, selectable := c.selector.Requirements(); len(same) > 0 && selectable {
		c.selector = labels.SelectorFromSet(same).Add(requirements...)
	}
	if in.MinDomains != nil {
		c.minDomains = int(*in.MinDomains)
	}
	if in.NodeAffinityPolicy != nil {
		c.honorAffinity = *in.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
	}
	if in.NodeTaintsPolicy != nil {
		c.honorTaints = *in.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
	}
	return c, nil
}

// counts reports whether the node's Pods count for the constraint. They do not if the Pod could not go there
// anyway.
func (c *constraint) counts(pod *framework.PodInfo, node *corev1.Node) bool {
	if c.honorAffinity && !pod.Nodes.Matches(node) {
		return false
	}
	return !c.honorTaints || untolerated(node, pod.Pod) == nil
}

// selects reports whether the constraint selects the Pods of the class.
func (c *constraint) selects(pod *framework.PodInfo, class *framework.Class) bool {
	return class.Namespace == pod.Class.Namespace && !class.Deleted && !c.selector.Empty() && c.selector.Matches(class.Labels)
}

// matching counts the Pods of a node that the constraint selects. known caches the classes that it selects.
func (c *constraint) matching(pod *framework.PodInfo, node *framework.NodeInfo, known map[*framework.Class]bool) int {
	n := 0
	for _, cc := range node.Classes {
		yes, ok := known[cc.Class]
		if !ok {
			yes = c.selects(pod, cc.Class)
			known[cc.Class] = yes
		}
		if yes {
			n += cc.N
		}
	}
	return n
}

// spreadState holds, for each constraint, how many Pods each domain has.
type spreadState struct {
	all     []constraint
	domains []map[string]int
	// fewest caches the smallest count of each constraint; -1 if it has to be computed.
	fewest []int
}

// Clone implements framework.State.
func (s *spreadState) Clone() framework.State {
	c := &spreadState{all: s.all, fewest: slices.Clone(s.fewest), domains: make([]map[string]int, len(s.domains))}
	for i, m := range s.domains {
		c.domains[i] = maps.Clone(m)
	}
	return c
}

// least returns the count of the domain with the fewest Pods. It returns 0 if there are fewer domains than
// minDomains, because the missing ones have no Pods.
func (s *spreadState) least(i int) int {
	if len(s.domains[i]) < s.all[i].minDomains {
		return 0
	}
	least := math.MaxInt32
	for _, n := range s.domains[i] {
		least = min(least, n)
	}
	return least
}

// computeFewest computes the smallest counts. Filter, which many goroutines call, only reads them.
func (s *spreadState) computeFewest() {
	for i := range s.all {
		s.fewest[i] = s.least(i)
	}
}

// PreFilter implements framework.PreFilterer.
func (t *PodTopologySpread) PreFilter(pod *framework.PodInfo, snapshot *framework.Snapshot) framework.PreFilter {
	all, err := t.constraints(pod, corev1.DoNotSchedule)
	if err != nil {
		return framework.PreFilter{Refused: framework.Fail(PodTopologySpreadName, err)}
	}
	if len(all) == 0 {
		return framework.PreFilter{Skip: true}
	}
	s := &spreadState{all: all, fewest: make([]int, len(all))}
	known := make([]map[*framework.Class]bool, len(all))
	for i := range all {
		s.domains = append(s.domains, map[string]int{})
		known[i] = map[*framework.Class]bool{}
	}
	for _, node := range snapshot.Nodes {
		if !hasAllKeys(node.Node, all) {
			continue
		}
		for i := range all {
			if all[i].counts(pod, node.Node) {
				s.domains[i][node.Node.Labels[all[i].key]] += all[i].matching(pod, node, known[i])
			}
		}
	}
	s.computeFewest()
	return framework.PreFilter{State: s}
}

func hasAllKeys(node *corev1.Node, all []constraint) bool {
	for i := range all {
		if _, ok := node.Labels[all[i].key]; !ok {
			return false
		}
	}
	return true
}

// PodAdded implements framework.Adjuster.
func (t *PodTopologySpread) PodAdded(state framework.State, pod, added *framework.PodInfo, node *framework.NodeInfo) {
	t.adjust(state, pod, added, node, 1)
}

// PodRemoved implements framework.Adjuster.
func (t *PodTopologySpread) PodRemoved(state framework.State, pod, removed *framework.PodInfo, node *framework.NodeInfo) {
	t.adjust(state, pod, removed, node, -1)
}

func (t *PodTopologySpread) adjust(state framework.State, pod, other *framework.PodInfo, node *framework.NodeInfo, n int) {
	s, ok := state.(*spreadState)
	if !ok || !hasAllKeys(node.Node, s.all) {
		return
	}
	for i := range s.all {
		if c := &s.all[i]; c.selects(pod, other.Class) && c.counts(pod, node.Node) {
			s.domains[i][node.Node.Labels[c.key]] += n
		}
	}
	s.computeFewest()
}

// Filter implements framework.Filterer.
func (t *PodTopologySpread) Filter(state framework.State, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	s, ok := state.(*spreadState)
	if !ok {
		return nil
	}
	for i := range s.all {
		value, ok := node.Node.Labels[s.all[i].key]
		if !ok {
			return refusedSpreadLabel
		}
		if s.skew(i, value) > s.all[i].maxSkew {
			return refusedSpread
		}
	}
	return nil
}

// skew returns by how much the domain, with the Pod in it, would exceed the domain with the fewest Pods.
func (s *spreadState) skew(i int, value string) int {
	n := s.domains[i][value] - s.fewest[i]
	if s.all[i].self {
		n++
	}
	return n
}

// Hints implements framework.Hinter.
func (t *PodTopologySpread) Hints() []framework.Hint {
	return []framework.Hint{
		{Kinds: framework.OwnLabels | framework.OwnTolerations},
		{Kinds: framework.PodPlaced | framework.PodLabels | framework.PodGone, Helps: t.podHelps},
		{Kinds: framework.NodeAdd | framework.NodeRemove | framework.NodeLabels | framework.NodeTaints, Helps: t.nodeHelps},
	}
}

func (t *PodTopologySpread) podHelps(pod *framework.PodInfo, e framework.Event) bool {
	old, _ := e.Old.(*framework.PodInfo)
	now, _ := e.New.(*framework.PodInfo)
	all, err := t.constraints(pod, corev1.DoNotSchedule)
	if err != nil {
		return true
	}
	for i := range all {
		was := old != nil && all[i].selects(pod, old.Class)
		is := now != nil && all[i].selects(pod, now.Class)
		if was != is {
			return true
		}
	}
	return false
}

func (t *PodTopologySpread) nodeHelps(pod *framework.PodInfo, e framework.Event) bool {
	old, _ := e.Old.(*corev1.Node)
	now, _ := e.New.(*corev1.Node)
	all, err := t.constraints(pod, corev1.DoNotSchedule)
	if err != nil {
		return true
	}
	was := old != nil && hasAllKeys(old, all)
	is := now != nil && hasAllKeys(now, all)
	if !was || !is {
		return was != is
	}
	for i := range all {
		if old.Labels[all[i].key] != now.Labels[all[i].key] {
			return true
		}
	}
	return e.Kinds&framework.NodeTaints != 0
}

// Explain implements framework.Explainer.
func (t *PodTopologySpread) Explain(state framework.State, _ *framework.PodInfo, node *framework.NodeInfo) []framework.Detail {
	s, ok := state.(*spreadState)
	if !ok {
		return nil
	}
	var out []framework.Detail
	for i, c := range s.all {
		value, ok := node.Node.Labels[c.key]
		switch {
		case !ok:
			out = append(out, framework.Detail{
				Plugin: PodTopologySpreadName, Reason: refusedSpreadLabel.Message(),
				Text: "the node has no label " + c.key, Fix: "label the node",
			})
		case s.skew(i, value) > c.maxSkew:
			out = append(out, framework.Detail{
				Plugin: PodTopologySpreadName, Reason: refusedSpread.Message(),
				Text: fmt.Sprintf("%s=%s has %d matching pods and another domain has %d; this pod would make the skew %d, at most %d is allowed",
					c.key, value, s.domains[i][value], s.fewest[i], s.skew(i, value), c.maxSkew),
				Fix: "make room in the other domains, or raise maxSkew",
			})
		}
	}
	return out
}
