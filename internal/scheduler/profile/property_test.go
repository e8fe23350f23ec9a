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
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/scheduler/cache"
	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/plugins"
	"podium.dev/podium/internal/scheduler/profile"
	"podium.dev/podium/internal/scheduler/queue"
)

// seedVariable names the seed of a run to be repeated.
const seedVariable = "PODIUM_TEST_SEED"

type namespaceLabels map[string]labels.Set

func (n namespaceLabels) Labels(namespace string) labels.Set { return n[namespace] }

// random makes random clusters.
type random struct{ *rand.Rand }

func (r random) chance(percent int) bool { return r.IntN(100) < percent }

func pickOf[T any](r random, all ...T) T { return all[r.IntN(len(all))] }

func (r random) node(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	if r.chance(85) {
		n.Labels["zone"] = pickOf(r, "a", "b", "c")
	}
	if r.chance(40) {
		n.Labels["disk"] = pickOf(r, "ssd", "hdd")
	}
	if r.chance(20) {
		n.Spec.Taints = []corev1.Taint{{Key: pickOf(r, "k", "l"), Value: pickOf(r, "v", "w"), Effect: pickOf(r, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule)}}
	}
	n.Spec.Unschedulable = r.chance(5)
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(int64(1000+500*r.IntN(5)), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(int64(1+r.IntN(3))<<30, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(int64(2+r.IntN(6)), resource.DecimalSI),
	}
	for _, image := range []string{"small", "medium", "large"} {
		if r.chance(40) {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{"registry.test/" + image + ":latest"}, SizeBytes: map[string]int64{"small": 30 << 20, "medium": 300 << 20, "large": 900 << 20}[image]})
		}
	}
	if r.chance(30) {
		n.Status.Allocatable["example.com/thing"] = *resource.NewQuantity(int64(r.IntN(3)), resource.DecimalSI)
	}
	return n
}

func (r random) selector() *metav1.LabelSelector {
	if r.chance(10) {
		return &metav1.LabelSelector{}
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": pickOf(r, "x", "y")}}
}

func (r random) term() corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{LabelSelector: r.selector(), TopologyKey: pickOf(r, "zone", corev1.LabelHostname, "disk")}
	switch r.IntN(6) {
	case 0:
		t.Namespaces = []string{pickOf(r, "s", "t")}
	case 1:
		t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": pickOf(r, "red", "blue")}}
	}
	return t
}

func (r random) pod(name string) *corev1.Pod {
	priority := int32(r.IntN(3))
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Namespace: pickOf(r, "s", "s", "t"), Labels: map[string]string{"app": pickOf(r, "x", "y", "z"), "rev": pickOf(r, "1", "2")}},
		Spec: corev1.PodSpec{Priority: &priority, Containers: []corev1.Container{{
			Name: "c", Image: "registry.test/" + pickOf(r, "small", "medium", "large"), Resources: requestsOf(int64(r.IntN(5)*250), int64(r.IntN(4))<<28),
		}}},
	}
	c := &p.Spec.Containers[0]
	if r.chance(10) {
		one := *resource.NewQuantity(1, resource.DecimalSI)
		c.Resources.Requests["example.com/thing"], c.Resources.Limits = one, corev1.ResourceList{"example.com/thing": one}
	}
	if r.chance(15) {
		c.Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: int32(80 + r.IntN(2)), HostIP: pickOf(r, "", "10.0.0.1", "10.0.0.2")}}
	}
	for range r.IntN(3) {
		init := corev1.Container{Name: fmt.Sprint("i", len(p.Spec.InitContainers)), Image: "registry.test/small", Resources: requestsOf(int64(r.IntN(6)*250), 0)}
		if r.chance(40) {
			always := corev1.ContainerRestartPolicyAlways
			init.RestartPolicy = &always
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, init)
	}
	if r.chance(10) {
		p.Spec.Overhead = requestsOf(250, 1<<27).Requests
	}
	if r.chance(15) {
		p.Spec.NodeSelector = map[string]string{"disk": pickOf(r, "ssd", "hdd")}
	}
	if r.chance(25) {
		p.Spec.Tolerations = []corev1.Toleration{pickOf(r,
			corev1.Toleration{Operator: corev1.TolerationOpExists},
			corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
			corev1.Toleration{Key: "l", Operator: corev1.TolerationOpEqual, Value: "v"})}
	}
	r.affinity(p)
	for range r.IntN(2) * r.IntN(3) {
		c := r.spread()
		if !slices.ContainsFunc(p.Spec.TopologySpreadConstraints, func(o corev1.TopologySpreadConstraint) bool {
			return o.TopologyKey == c.TopologyKey && o.WhenUnsatisfiable == c.WhenUnsatisfiable
		}) {
			p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
		}
	}
	return p
}

// requestsOf requests CPU in thousandths and bytes of memory; of what is 0 nothing is said.
func requestsOf(cpu, memory int64) corev1.ResourceRequirements {
	list := corev1.ResourceList{}
	if cpu > 0 {
		list[corev1.ResourceCPU] = *resource.NewMilliQuantity(cpu, resource.DecimalSI)
	}
	if memory > 0 {
		list[corev1.ResourceMemory] = *resource.NewQuantity(memory, resource.BinarySI)
	}
	return corev1.ResourceRequirements{Requests: list}
}

func (r random) affinity(p *corev1.Pod) {
	a := &corev1.Affinity{}
	if r.chance(15) {
		e := corev1.NodeSelectorRequirement{Key: pickOf(r, "zone", "disk"), Operator: pickOf(r, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn), Values: []string{pickOf(r, "a", "b", "ssd")}}
		term := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{e}}
		if r.chance(30) {
			term = corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{fmt.Sprint("n", r.IntN(4))}}}}
		}
		a.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}}}
		p.Spec.Affinity = a
	}
	if r.chance(20) {
		a.PodAffinity = &corev1.PodAffinity{}
		for range 1 + r.IntN(2) {
			a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = append(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, r.term())
		}
		p.Spec.Affinity = a
	}
	if r.chance(20) {
		a.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{r.term()}}
		if r.chance(30) {
			a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{Weight: 5, PodAffinityTerm: r.term()}}
		}
		p.Spec.Affinity = a
	}
	if r.chance(20) {
		if a.PodAffinity == nil {
			a.PodAffinity = &corev1.PodAffinity{}
		}
		a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{Weight: int32(1 + r.IntN(50)), PodAffinityTerm: r.term()}}
		p.Spec.Affinity = a
	}
	if r.chance(20) {
		if a.NodeAffinity == nil {
			a.NodeAffinity = &corev1.NodeAffinity{}
		}
		for range 1 + r.IntN(2) {
			a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution, corev1.PreferredSchedulingTerm{
				Weight: int32(1 + r.IntN(50)), Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{pickOf(r, "ssd", "hdd")}}}},
			})
		}
		p.Spec.Affinity = a
	}
}

func (r random) spread() corev1.TopologySpreadConstraint {
	c := corev1.TopologySpreadConstraint{
		MaxSkew: int32(1 + r.IntN(2)), TopologyKey: pickOf(r, "zone", corev1.LabelHostname), LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": pickOf(r, "x", "y")}},
		WhenUnsatisfiable: pickOf(r, corev1.DoNotSchedule, corev1.DoNotSchedule, corev1.ScheduleAnyway),
	}
	if r.chance(20) && c.WhenUnsatisfiable == corev1.DoNotSchedule {
		n := int32(1 + r.IntN(3))
		c.MinDomains = &n
	}
	if r.chance(30) {
		policy := pickOf(r, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
		c.NodeAffinityPolicy, c.NodeTaintsPolicy = &policy, &policy
	}
	if r.chance(30) {
		c.MatchLabelKeys = []string{"rev"}
	}
	return c
}

// rig is a profile with all default rules over a cluster of its own.
type rig struct {
	oracle
	cache     *cache.Cache
	snapshot  *framework.Snapshot
	profile   *profile.Profile
	nominated *queue.Nominated
	preempted []plugins.Preemption
}

func newRig(t testing.TB) *rig {
	r := &rig{cache: cache.New(), snapshot: framework.NewSnapshot(), nominated: queue.NewNominated()}
	r.oracle = oracle{nodes: map[string]*corev1.Node{}, pods: map[string]*corev1.Pod{}, namespaces: map[string]labels.Set{"s": {"team": "red"}, "t": {"team": "blue"}}}
	d := plugins.Dependencies{
		Namespaces: namespaceLabels(r.namespaces),
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
	r.nodes[n.Name] = n
	r.cache.SetNode(n)
}

func (r *rig) place(p *corev1.Pod, node string) {
	p = p.DeepCopy()
	p.Spec.NodeName = node
	r.pods[p.Name] = p
	r.cache.SetPod(framework.NewPodInfo(p))
}

func (r *rig) remove(name string) {
	r.cache.RemovePod(r.pods[name].UID)
	delete(r.pods, name)
}

// decide makes a decision and holds it against the oracle, on every node.
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
	for name, n := range r.nodes {
		want := r.fits(p, n)
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
	r := random{rand.New(rand.NewPCG(seed, 1))}
	decisions, placed, preemptions := 0, 0, 0
	for range 400 {
		g := newRig(t)
		for i := range 1 + r.IntN(7) {
			g.addNode(r.node(fmt.Sprint("n", i)))
		}
		for i := range 25 {
			p := r.pod(fmt.Sprint("p", i))
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
			if r.chance(20) && len(g.pods) > 0 {
				for name := range g.pods {
					g.remove(name)
					break
				}
			}
		}
	}
	t.Logf("%d decisions, %d placed, %d preemptions", decisions, placed, preemptions)
}

// preempt asks for a way out, and checks that a preemption, carried out, makes the Pod fit.
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
	if !r.fits(p, r.nodes[post.Nominated]) {
		return 0, fmt.Errorf("pod %s does not fit node %s after its preemption", p.Name, post.Nominated)
	}
	r.place(p, post.Nominated)
	return 1, nil
}
