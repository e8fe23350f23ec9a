package profile_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"

	"podium.dev/podium/internal/scheduler/cache"
	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/oracletest"
	"podium.dev/podium/internal/scheduler/plugins"
	"podium.dev/podium/internal/scheduler/profile"
	"podium.dev/podium/internal/scheduler/queue"
)

// seedVariable names the environment variable with the seed of a run to repeat.
const seedVariable = "PODIUM_TEST_SEED"

type namespaceLabels map[string]labels.Set

func (n namespaceLabels) Labels(namespace string) labels.Set { return n[namespace] }

// rig is a profile with all default rules over a cluster of its own.
type rig struct {
	oracletest.Oracle
	cache     *cache.Cache
	snapshot  *framework.Snapshot
	profile   *profile.Profile
	nominated *queue.Nominated
	preempted []plugins.Preemption
}

func newRig(t testing.TB) *rig {
	r := &rig{cache: cache.New(), snapshot: framework.NewSnapshot(), nominated: queue.NewNominated()}
	r.Oracle = oracletest.Oracle{Nodes: map[string]*corev1.Node{}, Pods: map[string]*corev1.Pod{}, Namespaces: map[string]labels.Set{"s": {"team": "red"}, "t": {"team": "blue"}}}
	d := plugins.Dependencies{
		Namespaces: namespaceLabels(r.Namespaces),
		Siblings:   func(*corev1.Pod) labels.Selector { return labels.Everything() },
		Budgets:    func() []*policyv1.PodDisruptionBudget { return nil },
		Preempt:    func(p plugins.Preemption) { p.Finish(); r.preempted = append(r.preempted, p) },
	}
	var enabled []profile.Enabled
	for _, p := range []struct {
		name   string
		weight int64
	}{
		{plugins.PrioritySortName, 0}, {plugins.NodeNameName, 0}, {plugins.NodeUnschedulableName, 0}, {plugins.TaintTolerationName, 3},
		{plugins.NodeAffinityName, 2}, {plugins.NodePortsName, 0}, {plugins.NodeResourcesFitName, 1}, {plugins.PodTopologySpreadName, 2},
		{plugins.InterPodAffinityName, 2}, {plugins.DefaultPreemptionName, 0}, {plugins.BalancedAllocationName, 1},
		{plugins.ImageLocalityName, 1}, {plugins.DefaultBinderName, 0},
	} {
		plugin, err := plugins.New(p.name, nil, d)
		if err != nil {
			t.Fatal(err)
		}
		enabled = append(enabled, profile.Enabled{Plugin: plugin, Weight: p.weight})
	}
	var err error
	if r.profile, err = profile.New("default-scheduler", 0, r.nominated, enabled); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) addNode(n *corev1.Node) {
	r.Nodes[n.Name] = n
	r.cache.SetNode(n)
}

func (r *rig) place(p *corev1.Pod, node string) {
	p = p.DeepCopy()
	p.Spec.NodeName = node
	r.Pods[p.Name] = p
	r.cache.SetPod(framework.NewPodInfo(p))
}

func (r *rig) remove(name string) {
	r.cache.RemovePod(r.Pods[name].UID)
	delete(r.Pods, name)
}

// decide makes a decision and checks it against the oracle, on every node.
func (r *rig) decide(p *corev1.Pod) (*profile.Cycle, *framework.Status, []*framework.NodeInfo, error) {
	r.cache.Update(r.snapshot)
	cycle, whole := r.profile.Begin(framework.NewPodInfo(p), r.snapshot)
	var fitting []*framework.NodeInfo
	if whole == nil {
		var failed *framework.Status
		if fitting, failed = cycle.Find(); failed != nil {
			return nil, nil, nil, failed.Err
		}
	}
	for name, n := range r.Nodes {
		want := r.Fits(p, n)
		got := slices.ContainsFunc(fitting, func(f *framework.NodeInfo) bool { return f.Node.Name == name })
		if got != want {
			why := "it fits"
			if i := r.snapshot.Index[name]; cycle.Refused(i) != nil {
				why = cycle.Refused(i).Message()
			}
			return nil, nil, nil, fmt.Errorf("pod %s on node %s: the scheduler says %v (%s), the oracle %v", p.Name, name, got, why, want)
		}
		if whole == nil && (len(cycle.Explain(r.snapshot.Get(name))) == 0) != want {
			return nil, nil, nil, fmt.Errorf("pod %s on node %s: the explanation differs from the decision", p.Name, name)
		}
	}
	return cycle, whole, fitting, nil
}

func TestDecisionsAgreeWithTheOracle(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d; set %s to repeat it", seed, seedVariable)
	r := oracletest.Random{Rand: rand.New(rand.NewPCG(seed, 1))}
	decisions, placed, preemptions := 0, 0, 0
	for range 400 {
		g := newRig(t)
		for i := range 1 + r.IntN(7) {
			g.addNode(r.Node(fmt.Sprint("n", i)))
		}
		for i := range 25 {
			p := r.Pod(fmt.Sprint("p", i))
			cycle, whole, fitting, err := g.decide(p)
			if err != nil {
				t.Fatal(err)
			}
			decisions++
			switch {
			case len(fitting) > 0:
				g.place(p, cycle.Choose(fitting).Node.Name)
				placed++
			default:
				n, err := g.preempt(cycle, whole, p)
				if err != nil {
					t.Fatal(err)
				}
				preemptions += n
			}
			if r.Chance(20) && len(g.Pods) > 0 {
				for name := range g.Pods {
					g.remove(name)
					break
				}
			}
		}
	}
	t.Logf("%d decisions, %d placed, %d preemptions", decisions, placed, preemptions)
}

// preempt runs the PostFilter and checks that the preemption, once carried out, makes the Pod fit.
func (r *rig) preempt(cycle *profile.Cycle, whole *framework.Status, p *corev1.Pod) (int, error) {
	r.preempted = nil
	post := cycle.PostFilter(context.Background())
	if message := cycle.Refusal(whole, post).Message; message == "" {
		return 0, fmt.Errorf("pod %s is refused without a message", p.Name)
	}
	if post.Nominated == "" {
		return 0, nil
	}
	if len(r.preempted) != 1 {
		return 0, fmt.Errorf("pod %s: %d preemptions", p.Name, len(r.preempted))
	}
	for _, v := range r.preempted[0].Victims {
		if v.Priority >= *p.Spec.Priority {
			return 0, fmt.Errorf("pod %s of priority %d preempts one of %d", p.Name, *p.Spec.Priority, v.Priority)
		}
		r.remove(v.Pod.Name)
	}
	if !r.Fits(p, r.Nodes[post.Nominated]) {
		return 0, fmt.Errorf("pod %s does not fit node %s after its preemption", p.Name, post.Nominated)
	}
	r.place(p, post.Nominated)
	return 1, nil
}
