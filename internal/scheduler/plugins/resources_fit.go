package plugins

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"podium.dev/podium/internal/scheduler/framework"
)

// NodeResourcesFit keeps a Pod off nodes that have less free than it requests, and scores the others by what
// would remain free, according to its Strategy.
type NodeResourcesFit struct {
	Strategy Strategy
	// Ignored are extended resources, and IgnoredGroups domains of extended resources, that do not count.
	Ignored, IgnoredGroups sets.Set[string]
}

// Name implements framework.Plugin.
func (NodeResourcesFit) Name() string { return NodeResourcesFitName }

// shortage is a resource of which a node has too little free.
type shortage struct {
	resource         corev1.ResourceName
	needs, used, has int64
}

// shortages calls yield for each resource of which the node has too little, until yield returns false.
func (f NodeResourcesFit) shortages(pod *framework.PodInfo, node *framework.NodeInfo, yield func(shortage) bool) {
	if n := int64(len(node.Pods)); n+1 > node.Allocatable.Pods {
		if !yield(shortage{corev1.ResourcePods, 1, n, node.Allocatable.Pods}) {
			return
		}
	}
	want, used, has := &pod.Request, &node.Requested, &node.Allocatable
	if want.MilliCPU > 0 && want.MilliCPU > has.MilliCPU-used.MilliCPU {
		if !yield(shortage{corev1.ResourceCPU, want.MilliCPU, used.MilliCPU, has.MilliCPU}) {
			return
		}
	}
	if want.Memory > 0 && want.Memory > has.Memory-used.Memory {
		if !yield(shortage{corev1.ResourceMemory, want.Memory, used.Memory, has.Memory}) {
			return
		}
	}
	if want.EphemeralStorage > 0 && want.EphemeralStorage > has.EphemeralStorage-used.EphemeralStorage {
		if !yield(shortage{corev1.ResourceEphemeralStorage, want.EphemeralStorage, used.EphemeralStorage, has.EphemeralStorage}) {
			return
		}
	}
	if len(want.Scalar) == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(want.Scalar)) {
		n := want.Scalar[name]
		if n == 0 || f.ignores(name) || n <= has.Scalar[name]-used.Scalar[name] {
			continue
		}
		if !yield(shortage{name, n, used.Scalar[name], has.Scalar[name]}) {
			return
		}
	}
}

func (f NodeResourcesFit) ignores(name corev1.ResourceName) bool {
	if len(f.Ignored)+len(f.IgnoredGroups) == 0 || !framework.IsExtended(name) {
		return false
	}
	group, _, _ := strings.Cut(string(name), "/")
	return f.Ignored.Has(string(name)) || f.IgnoredGroups.Has(group)
}

// reason returns the shortage in Kubernetes' words.
func (s shortage) reason() string {
	if s.resource == corev1.ResourcePods {
		return "Too many pods"
	}
	return "Insufficient " + string(s.resource)
}

// forGood reports whether even the empty node would be too small.
func (s shortage) forGood() bool { return s.needs > s.has && s.resource != corev1.ResourcePods }

// Filter implements framework.Filterer.
func (f NodeResourcesFit) Filter(_ framework.State, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	var found [8]shortage // more than any Pod requests in practice; further ones are not reported
	n := 0
	f.shortages(pod, node, func(s shortage) bool {
		found[n] = s
		n++
		return n < len(found)
	})
	if n == 0 {
		return nil
	}
	return fitRefusals.of(found[:n])
}

// refusals keeps one Status for each combination of shortages, because thousands of nodes may refuse a Pod for
// the same reasons.
type refusals struct{ known sync.Map }

var fitRefusals refusals

func (r *refusals) of(all []shortage) *framework.Status {
	type key struct {
		resources [8]corev1.ResourceName
		forGood   bool
	}
	var k key
	for i, s := range all {
		k.resources[i] = s.resource
		k.forGood = k.forGood || s.forGood()
	}
	if s, ok := r.known.Load(k); ok {
		return s.(*framework.Status)
	}
	reasons := make([]string, 0, len(all))
	for _, s := range all {
		reasons = append(reasons, s.reason())
	}
	status := framework.Refuse(NodeResourcesFitName, reasons...)
	if k.forGood {
		status.Code = framework.Unresolvable
	}
	r.known.Store(k, status)
	return status
}

// Hints implements framework.Hinter.
func (f NodeResourcesFit) Hints() []framework.Hint {
	return []framework.Hint{
		{Kinds: framework.PodGone | framework.OwnShrunk},
		{Kinds: framework.PodShrunk, Helps: func(pod *framework.PodInfo, e framework.Event) bool {
			old, ok1 := e.Old.(*framework.PodInfo)
			now, ok2 := e.New.(*framework.PodInfo)
			return !ok1 || !ok2 || givesBack(pod, old, now)
		}},
		{Kinds: framework.NodeAdd | framework.NodeAllocatable, Helps: func(pod *framework.PodInfo, e framework.Event) bool {
			now, ok := e.New.(*corev1.Node)
			if !ok {
				return true
			}
			old, _ := e.Old.(*corev1.Node)
			return f.fitsEmpty(pod, now) && (old == nil || grew(pod, old, now))
		}},
	}
}

// givesBack reports whether a Pod that shrank released something that this one requests.
func givesBack(pod, old, now *framework.PodInfo) bool {
	for _, name := range requested(pod) {
		if now.Request.Of(name) < old.Request.Of(name) {
			return true
		}
	}
	return false
}

func requested(pod *framework.PodInfo) []corev1.ResourceName {
	var out []corev1.ResourceName
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if pod.Request.Of(name) > 0 {
			out = append(out, name)
		}
	}
	for name, n := range pod.Request.Scalar {
		if n > 0 {
			out = append(out, name)
		}
	}
	return out
}

// fitsEmpty reports whether the Pod would fit the node if nothing else were on it.
func (f NodeResourcesFit) fitsEmpty(pod *framework.PodInfo, node *corev1.Node) bool {
	empty := &framework.NodeInfo{Node: node, Allocatable: framework.NewResource(node.Status.Allocatable)}
	return f.Filter(nil, pod, empty) == nil
}

// grew reports whether the node has more than before of something that the Pod requests.
func grew(pod *framework.PodInfo, old, now *corev1.Node) bool {
	had, has := framework.NewResource(old.Status.Allocatable), framework.NewResource(now.Status.Allocatable)
	if has.Pods > had.Pods {
		return true
	}
	return slices.ContainsFunc(requested(pod), func(name corev1.ResourceName) bool { return has.Of(name) > had.Of(name) })
}

// largestHolders bounds the Pods that an explanation names.
const largestHolders = 3

// Explain implements framework.Explainer.
func (f NodeResourcesFit) Explain(_ framework.State, pod *framework.PodInfo, node *framework.NodeInfo) []framework.Detail {
	var out []framework.Detail
	f.shortages(pod, node, func(s shortage) bool {
		amount := func(n int64) string { return framework.Quantity(s.resource, n) }
		free := max(s.has-s.used, 0)
		d := framework.Detail{
			Plugin: NodeResourcesFitName, Reason: s.reason(), Resource: string(s.resource),
			Needs: amount(s.needs), Free: amount(free), Of: amount(s.has),
			Text: fmt.Sprintf("needs %s, %s free of %s", roughly(s.resource, s.needs), roughly(s.resource, free), roughly(s.resource, s.has)),
			Fix:  fmt.Sprintf("free %s of %s on the node, or request at most %s", amount(s.needs-free), s.resource, amount(free)),
		}
		if s.forGood() {
			d.Fix = fmt.Sprintf("the node is too small even when empty: request at most %s, or add a larger node", amount(s.has))
		}
		if s.resource != corev1.ResourcePods {
			d.Holders = holders(node, s.resource)
		} else {
			d.Fix = "delete a pod from the node, or raise the node's maxPods"
		}
		out = append(out, d)
		return true
	})
	return out
}

// roughly formats an amount for people: byte counts of more than six digits are rounded to tenths of a unit.
func roughly(name corev1.ResourceName, n int64) string {
	exact := framework.Quantity(name, n)
	const enough = len("999999Ki")
	if inBytes := framework.Quantity(name, 1024) == "1Ki"; !inBytes || len(exact) <= enough {
		return exact
	}
	size, unit := float64(n), 0
	units := []string{"", "Ki", "Mi", "Gi", "Ti", "Pi"}
	for size >= 1024 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	return fmt.Sprintf("%.1f%s", size, units[unit])
}

// holders returns the Pods that take most of a resource.
func holders(node *framework.NodeInfo, name corev1.ResourceName) []framework.Holder {
	all := slices.Clone(node.Pods)
	slices.SortFunc(all, func(a, b *framework.PodInfo) int { return cmp.Compare(b.Request.Of(name), a.Request.Of(name)) })
	var out []framework.Holder
	for _, p := range all[:min(len(all), largestHolders)] {
		if n := p.Request.Of(name); n > 0 {
			out = append(out, framework.Holder{Pod: p.Name().String(), Amount: framework.Quantity(name, n)})
		}
	}
	return out
}
