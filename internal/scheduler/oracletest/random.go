package oracletest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Random makes random nodes and Pods.
type Random struct{ *rand.Rand }

// Chance returns true with the given probability in percent.
func (r Random) Chance(percent int) bool { return r.IntN(100) < percent }

// PickOf returns one of the values.
func PickOf[T any](r Random, all ...T) T { return all[r.IntN(len(all))] }

// Node returns a random node.
func (r Random) Node(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	if r.Chance(85) {
		n.Labels["zone"] = PickOf(r, "a", "b", "c")
	}
	if r.Chance(40) {
		n.Labels["disk"] = PickOf(r, "ssd", "hdd")
	}
	if r.Chance(20) {
		n.Spec.Taints = []corev1.Taint{{Key: PickOf(r, "k", "l"), Value: PickOf(r, "v", "w"), Effect: PickOf(r, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule)}}
	}
	n.Spec.Unschedulable = r.Chance(5)
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(int64(1000+500*r.IntN(5)), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(int64(1+r.IntN(3))<<30, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(int64(2+r.IntN(6)), resource.DecimalSI),
	}
	for _, image := range []string{"small", "medium", "large"} {
		if r.Chance(40) {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{"registry.test/" + image + ":latest"}, SizeBytes: map[string]int64{"small": 30 << 20, "medium": 300 << 20, "large": 900 << 20}[image]})
		}
	}
	if r.Chance(30) {
		n.Status.Allocatable["example.com/thing"] = *resource.NewQuantity(int64(r.IntN(3)), resource.DecimalSI)
	}
	return n
}

func (r Random) selector() *metav1.LabelSelector {
	if r.Chance(10) {
		return &metav1.LabelSelector{}
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": PickOf(r, "x", "y")}}
}

func (r Random) term() corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{LabelSelector: r.selector(), TopologyKey: PickOf(r, "zone", corev1.LabelHostname, "disk")}
	switch r.IntN(6) {
	case 0:
		t.Namespaces = []string{PickOf(r, "s", "t")}
	case 1:
		t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": PickOf(r, "red", "blue")}}
	}
	return t
}

// Pod returns a random Pod of namespace s or t.
func (r Random) Pod(name string) *corev1.Pod {
	priority := int32(r.IntN(3))
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Namespace: PickOf(r, "s", "s", "t"), Labels: map[string]string{"app": PickOf(r, "x", "y", "z"), "rev": PickOf(r, "1", "2")}},
		Spec: corev1.PodSpec{Priority: &priority, Containers: []corev1.Container{{
			Name: "c", Image: "registry.test/" + PickOf(r, "small", "medium", "large"), Resources: requestsOf(int64(r.IntN(5)*250), int64(r.IntN(4))<<28),
		}}},
	}
	c := &p.Spec.Containers[0]
	if r.Chance(10) {
		one := *resource.NewQuantity(1, resource.DecimalSI)
		c.Resources.Requests["example.com/thing"], c.Resources.Limits = one, corev1.ResourceList{"example.com/thing": one}
	}
	if r.Chance(15) {
		c.Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: int32(80 + r.IntN(2)), HostIP: PickOf(r, "", "10.0.0.1", "10.0.0.2")}}
	}
	for range r.IntN(3) {
		init := corev1.Container{Name: fmt.Sprint("i", len(p.Spec.InitContainers)), Image: "registry.test/small", Resources: requestsOf(int64(r.IntN(6)*250), 0)}
		if r.Chance(40) {
			always := corev1.ContainerRestartPolicyAlways
			init.RestartPolicy = &always
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, init)
	}
	if r.Chance(10) {
		p.Spec.Overhead = requestsOf(250, 1<<27).Requests
	}
	if r.Chance(15) {
		p.Spec.NodeSelector = map[string]string{"disk": PickOf(r, "ssd", "hdd")}
	}
	if r.Chance(25) {
		p.Spec.Tolerations = []corev1.Toleration{PickOf(r,
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

// requestsOf returns requests of CPU in thousandths and memory in bytes. An amount of 0 is left out.
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

func (r Random) affinity(p *corev1.Pod) {
	a := &corev1.Affinity{}
	if r.Chance(15) {
		e := corev1.NodeSelectorRequirement{Key: PickOf(r, "zone", "disk"), Operator: PickOf(r, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn), Values: []string{PickOf(r, "a", "b", "ssd")}}
		term := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{e}}
		if r.Chance(30) {
			term = corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{fmt.Sprint("n", r.IntN(4))}}}}
		}
		a.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}}}
		p.Spec.Affinity = a
	}
	if r.Chance(20) {
		a.PodAffinity = &corev1.PodAffinity{}
		for range 1 + r.IntN(2) {
			a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = append(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, r.term())
		}
		p.Spec.Affinity = a
	}
	if r.Chance(20) {
		a.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{r.term()}}
		if r.Chance(30) {
			a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{Weight: 5, PodAffinityTerm: r.term()}}
		}
		p.Spec.Affinity = a
	}
	if r.Chance(20) {
		if a.PodAffinity == nil {
			a.PodAffinity = &corev1.PodAffinity{}
		}
		a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{Weight: int32(1 + r.IntN(50)), PodAffinityTerm: r.term()}}
		p.Spec.Affinity = a
	}
	if r.Chance(20) {
		if a.NodeAffinity == nil {
			a.NodeAffinity = &corev1.NodeAffinity{}
		}
		for range 1 + r.IntN(2) {
			a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution, corev1.PreferredSchedulingTerm{
				Weight: int32(1 + r.IntN(50)), Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{PickOf(r, "ssd", "hdd")}}}},
			})
		}
		p.Spec.Affinity = a
	}
}

func (r Random) spread() corev1.TopologySpreadConstraint {
	c := corev1.TopologySpreadConstraint{
		MaxSkew: int32(1 + r.IntN(2)), TopologyKey: PickOf(r, "zone", corev1.LabelHostname), LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": PickOf(r, "x", "y")}},
		WhenUnsatisfiable: PickOf(r, corev1.DoNotSchedule, corev1.DoNotSchedule, corev1.ScheduleAnyway),
	}
	if r.Chance(20) && c.WhenUnsatisfiable == corev1.DoNotSchedule {
		n := int32(1 + r.IntN(3))
		c.MinDomains = &n
	}
	if r.Chance(30) {
		policy := PickOf(r, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
		c.NodeAffinityPolicy, c.NodeTaintsPolicy = &policy, &policy
	}
	if r.Chance(30) {
		c.MatchLabelKeys = []string{"rev"}
	}
	return c
}
