package daemonset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
)

// cluster is a model of the API server, a watch that lags behind it, and the nodes, for one DaemonSet.
type cluster struct {
	t         *testing.T
	seed      uint64
	rnd       *rand.Rand
	ds        *appsv1.DaemonSet
	hash      string
	nodes     []*corev1.Node
	pods      map[string]*corev1.Pod // by name
	cached    map[string]*corev1.Pod
	expect    *podcontrol.Expectations
	now       time.Time
	made      int
	unreliant bool // the API refuses some calls
}

func (c *cluster) watch(name string) {
	was, is := c.cached[name], c.pods[name]
	if is == nil {
		if was != nil {
			c.expect.Gone(c.ds.UID, was.UID)
		}
		delete(c.cached, name)
		return
	}
	c.cached[name] = is.DeepCopy()
}

func (c *cluster) names() []string {
	var out []string
	for name := range c.pods {
		out = append(out, name)
	}
	for name := range c.cached {
		if c.pods[name] == nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// round lets the controller decide once by its cache, and carries the decision out on the API server.
func (c *cluster) round() {
	var seen []*corev1.Pod
	for _, name := range c.names() {
		if p := c.cached[name]; p != nil {
			seen = append(seen, p)
		}
	}
	unseen, going := podcontrol.Settle(c.expect, c.ds.UID, seen)
	v := &view{ds: c.ds, hash: c.hash, nodes: c.nodes, pods: byNode(podcontrol.MarkGoing(seen, going, c.now)), now: c.now,
		backOff: func(string) time.Duration { return 0 }}
	d := v.decide()
	c.ds.Status = d.status
	if unseen > 0 {
		return
	}
	for _, node := range d.create {
		if !c.refused() {
			c.create(node)
		}
	}
	for _, p := range d.remove {
		if !c.refused() {
			c.remove(v, p)
		}
	}
}

func (c *cluster) refused() bool { return c.unreliant && c.rnd.IntN(8) == 0 }

func (c *cluster) create(node string) {
	c.made++
	p := newPod(podcontrol.Owner{Object: c.ds, Kind: kind, Events: c.ds}, c.ds, node, c.hash)
	p.Name, p.UID = fmt.Sprintf("d-%04d", c.made), types.UID(fmt.Sprint("p", c.made))
	p.CreationTimestamp, p.Status.Phase = metav1.NewTime(now.Add(time.Duration(c.made)*time.Second-time.Hour)), corev1.PodPending
	c.pods[p.Name] = p
	c.expect.Created(c.ds.UID, p.UID)
	alive := 0
	for _, other := range c.pods {
		if target(other) == node && podcontrol.Active(other) {
			alive++
		}
	}
	most := 1
	if c.surge() > 0 {
		most = 2
	}
	if alive > most {
		c.t.Errorf("seed %d: %d Pods on %s", c.seed, alive, node)
	}
}

func (c *cluster) surge() int { return int(c.ds.Spec.UpdateStrategy.RollingUpdate.MaxSurge.IntVal) }

// remove deletes a Pod and checks that no more than maxUnavailable that serve are under way to go.
func (c *cluster) remove(v *view, seen *corev1.Pod) {
	p := c.pods[seen.Name]
	if p == nil || p.DeletionTimestamp != nil {
		return
	}
	going, partner := 0, false
	for _, other := range c.pods {
		if other != p && other.DeletionTimestamp != nil && other.Labels["served"] != "" {
			going++
		}
	}
	// What failed since the watch showed it is nobody's decision: a partner counts as the cache has it.
	for _, other := range v.pods[target(p)] {
		partner = partner || other.UID != p.UID && podcontrol.Active(other)
	}
	serves := v.available(seen) && podcontrol.Active(seen) && c.has(target(p))
	if limit := int(c.ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal); serves && !partner && going >= limit {
		c.t.Errorf("seed %d: %s on %s is taken down as one more than %d", c.seed, p.Name, target(p), limit)
	}
	if serves && v.updated(p) && !partner {
		c.t.Errorf("seed %d: %s has the newest template and is taken down", c.seed, p.Name)
	}
	if serves && !partner {
		p.Labels["served"] = "yes"
	}
	c.expect.Deleting(c.ds.UID, p.UID, false)
	p.DeletionTimestamp = &metav1.Time{Time: c.now}
}

// live lets one Pod live on: bind, start, become ready, fail, end.
func (c *cluster) live(name string, troubles bool) {
	p := c.pods[name]
	switch {
	case p == nil:
	case p.DeletionTimestamp != nil || p.Spec.NodeName != "" && !c.has(p.Spec.NodeName):
		delete(c.pods, name) // the garbage collector of Pods removes those of a node that is gone
		if c.cached[name] == nil {
			c.expect.Gone(c.ds.UID, p.UID) // the watch shows it and its end at once
		}
	case p.Spec.NodeName == "" && !c.has(target(p)):
		// The scheduler does not bind it.
	case troubles && c.rnd.IntN(15) == 0:
		p.Status = corev1.PodStatus{Phase: corev1.PodFailed}
	case p.Status.Phase == corev1.PodPending:
		p.Spec.NodeName, p.Status.Phase = target(p), corev1.PodRunning
	case p.Status.Phase == corev1.PodRunning && len(p.Status.Conditions) == 0:
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(c.now)}}
	}
}

func (c *cluster) has(node string) bool {
	return slices.ContainsFunc(c.nodes, func(n *corev1.Node) bool { return n.Name == node })
}

// moveNodes lets a node come, return or go.
func (c *cluster) moveNodes() {
	name := fmt.Sprint("n", c.rnd.IntN(7))
	if !c.has(name) {
		c.nodes = append(c.nodes, newNode(name))
	} else if len(c.nodes) > 1 {
		c.nodes = slices.DeleteFunc(slices.Clone(c.nodes), func(n *corev1.Node) bool { return n.Name == name })
	}
}

func newCluster(t *testing.T, seed uint64) *cluster {
	rnd := rand.New(rand.NewPCG(seed, 1))
	ds := newSet(rnd.IntN(2)*(1+rnd.IntN(2)), 1+rnd.IntN(2))
	if ds.Spec.UpdateStrategy.RollingUpdate.MaxSurge.IntVal > 0 {
		ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(0))
	}
	ds.Spec.MinReadySeconds = 10 * rnd.Int32N(2)
	c := &cluster{t: t, seed: seed, rnd: rnd, ds: ds, hash: "r0", now: now, pods: map[string]*corev1.Pod{}, cached: map[string]*corev1.Pod{}}
	for i := range 2 + rnd.IntN(4) {
		c.nodes = append(c.nodes, newNode(fmt.Sprint("n", i)))
	}
	c.expect = podcontrol.NewExpectations(clocktesting.NewFakePassiveClock(now))
	return c
}

// TestRandomHistories lets a set live through roll-outs, roll-backs, failures, refusals and a watch that lags, and checks
// every step; then it lets the world calm down, and there must be one new Pod on every node.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(500) {
		c := newCluster(t, seed)
		c.unreliant = true
		for range 150 {
			names := c.names()
			switch k := c.rnd.IntN(20); {
			case k == 0 && c.rnd.IntN(3) == 0:
				c.moveNodes()
			case k == 0:
				c.hash = fmt.Sprint("r", c.rnd.IntN(3))
			case k < 8 || len(names) == 0:
				c.round()
			case k < 14:
				c.watch(names[c.rnd.IntN(len(names))])
			default:
				c.live(names[c.rnd.IntN(len(names))], true)
			}
			if t.Failed() {
				return
			}
			c.now = c.now.Add(time.Second)
		}
		c.unreliant = false
		for range 60 {
			c.now = c.now.Add(10 * time.Second)
			c.round()
			for _, name := range c.names() {
				c.live(name, false)
				c.watch(name)
			}
		}
		c.checkRest()
		if t.Failed() {
			return
		}
	}
}

func (c *cluster) checkRest() {
	on := map[string]int{}
	for name, p := range c.pods {
		on[target(p)]++
		if ready, _ := podcontrol.Available(p, 0, c.now); !ready || p.Labels[appsv1.ControllerRevisionHashLabelKey] != c.hash {
			c.t.Errorf("seed %d: %s comes to rest %s at %s", c.seed, name, p.Status.Phase, p.Labels[appsv1.ControllerRevisionHashLabelKey])
		}
	}
	n := len(c.nodes)
	if len(on) != n || len(c.pods) != n {
		c.t.Errorf("seed %d: comes to rest with %v on %d nodes", c.seed, on, n)
	}
	if s := c.ds.Status; int(s.NumberAvailable) != n || int(s.UpdatedNumberScheduled) != n || s.NumberUnavailable != 0 {
		c.t.Errorf("seed %d: comes to rest with status %+v", c.seed, s)
	}
}
