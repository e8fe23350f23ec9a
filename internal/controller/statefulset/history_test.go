package statefulset

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

// cluster is a model of the API server, a watch that lags behind it, and the nodes, for one StatefulSet.
type cluster struct {
	t         *testing.T
	seed      uint64
	rnd       *rand.Rand
	set       *appsv1.StatefulSet
	next      string // the newest revision
	pods      map[string]*corev1.Pod
	cached    map[string]*corev1.Pod
	expect    *podcontrol.Expectations
	now       time.Time
	made      int
	unreliant bool // the API refuses some calls
}

// watch lets the cache see the truth of one name. An event may come twice or be merged with later ones.
func (c *cluster) watch(name string) {
	was, is := c.cached[name], c.pods[name]
	if was != nil && (is == nil || is.UID != was.UID) {
		c.expect.Gone(c.set.UID, was.UID)
	}
	if is == nil {
		delete(c.cached, name)
		return
	}
	c.cached[name] = is.DeepCopy()
}

// names returns the names of Pods that the API server or the cache has.
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

func (c *cluster) serves(p *corev1.Pod) bool {
	ready, _ := podcontrol.Available(p, time.Duration(c.set.Spec.MinReadySeconds)*time.Second, c.now)
	return ready && p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil
}

// round lets the controller decide once by its cache, and carries the decision out on the API server.
func (c *cluster) round() {
	var seen []*corev1.Pod
	for _, name := range c.names() {
		if p := c.cached[name]; p != nil {
			seen = append(seen, p)
		}
	}
	unseen, going := podcontrol.Settle(c.expect, c.set.UID, seen)
	current := c.set.Status.CurrentRevision
	if current == "" {
		current = c.next
	}
	v := &view{set: c.set, current: c.set, next: c.set, currentRevision: current, nextRevision: c.next,
		pods: podcontrol.MarkGoing(seen, going, c.now), now: c.now}
	d := v.decide()
	c.set.Status = d.status
	if unseen > 0 {
		return
	}
	for _, phase := range d.phases {
		for _, a := range phase {
			if c.unreliant && c.rnd.IntN(8) == 0 {
				return // refused, or in conflict
			}
			if !c.act(a) {
				return
			}
		}
	}
}

func (c *cluster) act(a action) bool {
	name, have := a.pod.Name, c.pods[a.pod.Name]
	switch a.verb {
	case create:
		if have != nil {
			return false
		}
		c.checkCreate(name, revisionOf(a.pod))
		c.made++
		p := a.pod.DeepCopy()
		p.UID, p.Status.Phase = types.UID(fmt.Sprint("p", c.made)), corev1.PodPending
		c.pods[name] = p
		c.expect.Created(c.set.UID, p.UID)
	case remove:
		if have == nil || have.UID != a.pod.UID || have.DeletionTimestamp != nil {
			return true
		}
		c.checkRemove(a.pod)
		c.expect.Deleting(c.set.UID, have.UID, false)
		have.DeletionTimestamp = &metav1.Time{Time: c.now}
	}
	return true
}

// ordered reports whether the set works one by one.
func (c *cluster) ordered() bool {
	return c.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

// checkCreate checks that members come up in order and of the revision that the partition wants. The order is checked by
// deletions and existence: readiness may be lost at any moment, before the watch can show it.
func (c *cluster) checkCreate(name, revision string) {
	n, start := ordinal(c.set.Name, name), first(c.set)
	if !inRange(c.set, n) {
		c.t.Errorf("seed %d: %s is created and not wanted", c.seed, name)
	}
	if n < start+int(*c.set.Spec.UpdateStrategy.RollingUpdate.Partition) && revision != c.set.Status.CurrentRevision {
		c.t.Errorf("seed %d: %s below the partition is created at revision %s", c.seed, name, revision)
	}
	for i := start; c.ordered() && i < n; i++ {
		before := c.pods[memberName(c.set.Name, i)]
		if before == nil || before.DeletionTimestamp != nil || before.Labels["was-ready"] == "" {
			c.t.Errorf("seed %d: %s is created while %d is not there and ready", c.seed, name, i)
		}
	}
}

// checkRemove checks that an update takes no member below the partition and no more than maxUnavailable.
func (c *cluster) checkRemove(p *corev1.Pod) {
	n := ordinal(c.set.Name, p.Name)
	if p.Status.Phase == corev1.PodFailed {
		return
	}
	if !inRange(c.set, n) {
		for _, other := range c.pods {
			if c.ordered() && ordinal(c.set.Name, other.Name) > n {
				c.t.Errorf("seed %d: %s goes before %s", c.seed, p.Name, other.Name)
			}
		}
		return
	}
	if revisionOf(p) == c.next {
		c.t.Errorf("seed %d: %s is taken down and has the newest revision", c.seed, p.Name)
	}
	if n < first(c.set)+int(*c.set.Spec.UpdateStrategy.RollingUpdate.Partition) {
		c.t.Errorf("seed %d: %s below the partition is taken down", c.seed, p.Name)
	}
	// One that the cache shows as unavailable may go beyond the limit, with the policy Parallel.
	// Members that only failed count when the watch has shown it; those that were taken down count at once.
	going := 0
	for _, other := range c.pods {
		if inRange(c.set, ordinal(c.set.Name, other.Name)) && other.DeletionTimestamp != nil {
			going++
		}
	}
	if limit := int(c.set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal); c.serves(p) && going >= limit {
		c.t.Errorf("seed %d: %s is taken down as one more than %d", c.seed, p.Name, limit)
	}
}

// nodes lets one Pod live on: start, become ready, fail, end.
func (c *cluster) nodes(name string, troubles bool) {
	p := c.pods[name]
	switch {
	case p == nil:
	case p.DeletionTimestamp != nil:
		delete(c.pods, name)
	case !troubles && p.Status.Phase == corev1.PodFailed && !inRange(c.set, ordinal(c.set.Name, name)):
		// Several broken members block each other's removal, on Kubernetes too: a hand deletes them.
		p.DeletionTimestamp = &metav1.Time{Time: c.now}
	case troubles && c.rnd.IntN(12) == 0:
		p.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}
	case p.Status.Phase == corev1.PodPending:
		p.Status.Phase = corev1.PodRunning
	case p.Status.Phase == corev1.PodRunning && len(p.Status.Conditions) == 0:
		p.Labels["was-ready"] = "yes"
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(c.now)}}
	}
}

func (c *cluster) change() {
	switch c.rnd.IntN(4) {
	case 0:
		c.set.Spec.Replicas = ptr.To(c.rnd.Int32N(6))
	case 1:
		c.set.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To(max(0, c.rnd.Int32N(6)-3))
	default:
		// A roll-back as often as a new revision.
		c.next = fmt.Sprint("r", c.rnd.IntN(3))
	}
	c.set.Generation++
}

func newCluster(t *testing.T, seed uint64) *cluster {
	rnd := rand.New(rand.NewPCG(seed, 1))
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "ns", UID: "s"}}
	set.Spec.Replicas, set.Spec.Template.Labels = ptr.To(1+rnd.Int32N(5)), map[string]string{"app": "db"}
	set.Spec.PodManagementPolicy = []appsv1.PodManagementPolicyType{appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement}[rnd.IntN(2)]
	set.Spec.MinReadySeconds = 10 * rnd.Int32N(2)
	set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: rnd.Int32N(2) * 3}
	set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
		RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{
			Partition: ptr.To(max(0, rnd.Int32N(6)-3)), MaxUnavailable: ptr.To(intstr.FromInt32(1 + rnd.Int32N(2)))}}
	c := &cluster{t: t, seed: seed, rnd: rnd, set: set, next: "r0", now: now, pods: map[string]*corev1.Pod{}, cached: map[string]*corev1.Pod{}}
	c.expect = podcontrol.NewExpectations(clocktesting.NewFakePassiveClock(now))
	return c
}

// TestRandomHistories lets a set live through random changes, failures, refusals and a watch that lags, and checks every
// step; then it lets the world calm down and the set must come to rest as it is wanted.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(500) {
		c := newCluster(t, seed)
		c.unreliant = true
		for range 150 {
			names := c.names()
			switch k := c.rnd.IntN(20); {
			case k == 0:
				c.change()
			case k < 8 || len(names) == 0:
				c.round()
			case k < 14:
				c.watch(names[c.rnd.IntN(len(names))])
			default:
				c.nodes(names[c.rnd.IntN(len(names))], true)
			}
			if t.Failed() {
				return
			}
			c.now = c.now.Add(time.Second)
		}
		c.unreliant = false
		for range 100 {
			c.now = c.now.Add(10 * time.Second)
			c.round()
			for _, name := range c.names() {
				c.nodes(name, false)
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
	if len(c.pods) != wanted(c.set) {
		c.t.Errorf("seed %d: comes to rest with %d members of %d", c.seed, len(c.pods), wanted(c.set))
	}
	for name, p := range c.pods {
		above := ordinal(c.set.Name, name) >= first(c.set)+int(*c.set.Spec.UpdateStrategy.RollingUpdate.Partition)
		if !c.serves(p) || above && revisionOf(p) != c.next {
			c.t.Errorf("seed %d: %s comes to rest at revision %s, %s", c.seed, name, revisionOf(p), p.Status.Phase)
		}
	}
}
