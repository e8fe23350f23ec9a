package daemonset

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/podutil"
)

// view is what one round sees.
type view struct {
	ds    *appsv1.DaemonSet
	hash  string // of the newest revision
	nodes []*corev1.Node
	pods  map[string][]*corev1.Pod // by the node that they are for, the oldest first; none that has ended and is being deleted
	now   time.Time
	// backOff returns how long a failed Pod on the node must stay before it is replaced, 0 for not at all.
	backOff func(node string) time.Duration
}

// decision is what one round does.
type decision struct {
	create []string // nodes
	remove []*corev1.Pod
	failed []failure // ended Pods among remove, of which events tell
	status appsv1.DaemonSetStatus
	again  time.Duration
}

// failure is a Pod that ended although daemons run for good.
type failure struct {
	node string
	pod  *corev1.Pod
}

// later has another round after d, unless one is due before.
func (d *decision) later(after time.Duration) {
	if after > 0 && (d.again == 0 || after < d.again) {
		d.again = after
	}
}

// byNode returns the Pods by the node that they are for, as a view has them.
func byNode(pods []*corev1.Pod) map[string][]*corev1.Pod {
	out := map[string][]*corev1.Pod{}
	for _, p := range pods {
		node := target(p)
		if node == "" || podutil.Ended(p) && p.DeletionTimestamp != nil {
			continue
		}
		out[node] = append(out[node], p)
	}
	for _, here := range out {
		slices.SortFunc(here, oldestFirst)
	}
	return out
}

// decide decides which Pods to create and to delete. A roll-out goes on in a round in which nothing else is to do.
func (v *view) decide() decision {
	d := decision{status: v.ds.Status}
	where := newPlacer(v.ds)
	known := map[string]bool{}
	for _, n := range v.nodes {
		known[n.Name] = true
		v.keep(&d, n, where)
	}
	for _, node := range v.nodesWithPods() {
		for _, p := range v.pods[node] {
			// The scheduler never binds a Pod that is made for a node that is gone, and nobody else removes it.
			if !known[node] && p.Spec.NodeName == "" && p.DeletionTimestamp == nil {
				d.remove = append(d.remove, p)
			}
		}
	}
	if len(d.create) == 0 && len(d.remove) == 0 && v.ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		v.roll(&d, where)
	}
	v.count(&d, where)
	return d
}

// nodesWithPods returns the names of the nodes for which there are Pods, sorted.
func (v *view) nodesWithPods() []string {
	var out []string
	for node := range v.pods {
		out = append(out, node)
	}
	slices.Sort(out)
	return out
}

// keep brings one node in line: one Pod where one belongs, none where none may stay, ended ones replaced.
func (v *view) keep(d *decision, n *corev1.Node, where placer) {
	start, stay := where.fits(n)
	pods := v.pods[n.Name]
	if !stay {
		for _, p := range pods {
			if p.DeletionTimestamp == nil {
				d.remove = append(d.remove, p)
			}
		}
		return
	}
	if start && len(pods) == 0 {
		d.create = append(d.create, n.Name)
		return
	}
	var running []*corev1.Pod
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
		case p.Status.Phase == corev1.PodFailed:
			if wait := v.backOff(n.Name); wait > 0 {
				d.later(wait)
				continue
			}
			d.remove, d.failed = append(d.remove, p), append(d.failed, failure{n.Name, p})
		case p.Status.Phase == corev1.PodSucceeded:
			d.remove, d.failed = append(d.remove, p), append(d.failed, failure{n.Name, p})
		default:
			running = append(running, p)
		}
	}
	surge := count(v.maxSurge(), 1) > 0
	switch {
	case !surge && len(running) > 1:
		d.remove = append(d.remove, running[1:]...)
	case surge && len(running) == 0 && start:
		d.create = append(d.create, n.Name)
	case surge && len(running) > 1:
		d.remove = append(d.remove, v.surplus(running)...)
	}
}

// surplus returns those of several Pods on one node that must go: all but the oldest of the new and the oldest of the old
// revision, and of those two the old one once it is not ready or the new one is available.
func (v *view) surplus(running []*corev1.Pod) []*corev1.Pod {
	var fresh, old *corev1.Pod
	var out []*corev1.Pod
	for _, p := range running {
		switch isNew := v.updated(p); {
		case isNew && fresh == nil:
			fresh = p
		case !isNew && old == nil:
			old = p
		default:
			out = append(out, p)
		}
	}
	if fresh != nil && old != nil {
		if _, ready := podcontrol.ReadySince(old); !ready || v.available(fresh) {
			out = append(out, old)
		}
	}
	return out
}

// templateGeneration returns the number by which an early Kubernetes told templates apart, if the DaemonSet has one.
func templateGeneration(ds *appsv1.DaemonSet) (int64, bool) {
	n, err := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	return n, err == nil
}

// updated reports whether the Pod has the newest template.
func (v *view) updated(p *corev1.Pod) bool {
	if v.hash != "" && p.Labels[appsv1.ControllerRevisionHashLabelKey] == v.hash {
		return true
	}
	n, ok := templateGeneration(v.ds)
	return ok && p.Labels["pod-template-generation"] == fmt.Sprint(n)
}

func (v *view) available(p *corev1.Pod) bool {
	ok, _ := podcontrol.Available(p, v.minReady(), v.now)
	return ok
}

func (v *view) minReady() time.Duration {
	return time.Duration(v.ds.Spec.MinReadySeconds) * time.Second
}

func (v *view) maxSurge() *intstr.IntOrString {
	if u := v.ds.Spec.UpdateStrategy; u.Type == appsv1.RollingUpdateDaemonSetStrategyType && u.RollingUpdate != nil {
		return u.RollingUpdate.MaxSurge
	}
	return nil
}

// count returns a number or percentage of n Pods, rounded up; nil is 0.
func count(of *intstr.IntOrString, n int) int {
	c, _ := intstr.GetScaledValueFromIntOrPercent(ptr.To(ptr.Deref(of, intstr.FromInt32(0))), n, true) // validation lets nothing else in
	return c
}

// limits returns how many Pods a roll-out may have in addition and how many may be missing, with n nodes in all. One is
// always allowed: a roll-out must be able to go on.
func (v *view) limits(n int) (surge, unavailable int) {
	surge = count(v.maxSurge(), n)
	if u := v.ds.Spec.UpdateStrategy.RollingUpdate; u != nil {
		unavailable = count(u.MaxUnavailable, n)
	}
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

// roll takes the next step of a roll-out.
func (v *view) roll(d *decision, where placer) {
	desired := 0
	nodes := map[string]*corev1.Node{}
	for _, n := range v.nodes {
		nodes[n.Name] = n
		if start, _ := where.fits(n); start {
			desired++
		}
	}
	surge, unavailable := v.limits(desired)
	if surge == 0 {
		v.replace(d, unavailable)
		return
	}
	v.surge(d, surge, desired, func(node string) bool {
		if nodes[node] == nil {
			return false
		}
		start, _ := where.fits(nodes[node])
		return start
	})
}

// pair returns the Pod of the newest and the one of an older template on a node; ok is false when there are several of one.
func (v *view) pair(node string) (fresh, old *corev1.Pod, ok bool) {
	for _, p := range v.pods[node] {
		switch {
		case p.DeletionTimestamp != nil:
		case v.updated(p):
			if fresh != nil {
				return nil, nil, false
			}
			fresh = p
		default:
			if old != nil {
				return nil, nil, false
			}
			old = p
		}
	}
	return fresh, old, true
}

// replace deletes old Pods, so that the next round creates new ones: those that are unavailable anyway, and as many more
// as may be missing. Nodes whose Pod is being deleted count as missing one.
func (v *view) replace(d *decision, limit int) {
	missing := 0
	var broken, candidates []*corev1.Pod
	for _, node := range v.nodesWithPods() {
		fresh, old, ok := v.pair(node)
		switch {
		case !ok || (fresh == nil) == (old == nil):
			missing++
		case fresh != nil:
			if !v.available(fresh) {
				missing++
			}
		case !v.available(old):
			broken = append(broken, old)
			missing++
		default:
			candidates = append(candidates, old)
		}
	}
	n := min(max(0, limit-missing), len(candidates))
	d.remove = append(d.remove, append(broken, candidates[:n]...)...)
}

// surge creates new Pods next to old ones, and deletes an old one when the new one on its node is available. A Pod on a node
// where none belongs any more goes when enough others are available.
func (v *view) surge(d *decision, limit, desired int, belongs func(node string) bool) {
	extra, available := 0, 0
	var free, candidates []string
	var strays []*corev1.Pod
	for _, node := range v.nodesWithPods() {
		fresh, old, ok := v.pair(node)
		if !ok {
			extra++
			continue
		}
		if one := cmp.Or(old, fresh); one != nil && v.available(one) {
			available++
		}
		switch {
		case old == nil:
		case fresh != nil && v.available(fresh):
			d.remove = append(d.remove, old)
		case fresh != nil:
			extra++
		case !v.available(old) && !belongs(node):
			d.remove = append(d.remove, old)
		case !v.available(old):
			free = append(free, node)
		case !belongs(node):
			strays = append(strays, old)
		default:
			candidates = append(candidates, node)
		}
	}
	d.remove = append(d.remove, strays[:min(max(0, available-desired), len(strays))]...)
	d.create = append(d.create, append(free, candidates[:min(max(0, limit-extra), len(candidates))]...)...)
}

// count computes the status. On each node the oldest Pod counts.
func (v *view) count(d *decision, where placer) {
	s := &d.status
	s.ObservedGeneration = v.ds.Generation
	s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberMisscheduled, s.NumberReady = 0, 0, 0, 0
	s.UpdatedNumberScheduled, s.NumberAvailable = 0, 0
	for _, n := range v.nodes {
		start, _ := where.fits(n)
		pods := v.pods[n.Name]
		for _, p := range pods {
			// Under surge the old Pod, which counts below, waits for the new one next to it.
			_, left := podcontrol.Available(p, v.minReady(), v.now)
			d.later(left)
		}
		if !start {
			if len(pods) > 0 {
				s.NumberMisscheduled++
			}
			continue
		}
		s.DesiredNumberScheduled++
		if len(pods) == 0 {
			continue
		}
		s.CurrentNumberScheduled++
		if _, ready := podcontrol.ReadySince(pods[0]); ready {
			s.NumberReady++
			if v.available(pods[0]) {
				s.NumberAvailable++
			}
		}
		if v.updated(pods[0]) {
			s.UpdatedNumberScheduled++
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
}

// oldestFirst orders Pods: those on a node before those that wait, then by age.
func oldestFirst(a, b *corev1.Pod) int {
	waits := func(p *corev1.Pod) int {
		if p.Spec.NodeName == "" {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(waits(a), waits(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
}
