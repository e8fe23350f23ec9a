package pod

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/podutil"
)

func TestAdmit(t *testing.T) {
	node := func(change ...func(*v1.Node)) *v1.Node {
		n := &v1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"zone": "a"}},
			Status: v1.NodeStatus{Allocatable: v1.ResourceList{
				v1.ResourcePods: resource.MustParse("2"), v1.ResourceCPU: resource.MustParse("1"), v1.ResourceMemory: resource.MustParse("1Gi"),
			}},
		}
		for _, f := range change {
			f(n)
		}
		return n
	}
	asks := func(name v1.ResourceName, q string) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Requests = v1.ResourceList{name: resource.MustParse(q)}
		}
	}
	port := func(p *v1.Pod) { p.Spec.Containers[0].Ports = []v1.ContainerPort{{HostPort: 80}} }
	tests := []struct {
		name            string
		pod             *v1.Pod
		node            *v1.Node
		others          []*v1.Pod
		reason, message string
	}{
		{"fits", simple(asks(v1.ResourceCPU, "500m")), node(), []*v1.Pod{simple(asks(v1.ResourceCPU, "500m"))}, "", ""},
		{"cpu", simple(asks(v1.ResourceCPU, "600m")), node(), []*v1.Pod{simple(asks(v1.ResourceCPU, "500m"))}, "OutOfcpu",
			"Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000"},
		{"memory", simple(asks(v1.ResourceMemory, "2Gi")), node(), nil, "OutOfmemory",
			"Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824"},
		{"pods", simple(), node(), []*v1.Pod{simple(), simple()}, "OutOfpods",
			"Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2"},
		{"what the node does not count", simple(asks("example.com/gpu", "1")), node(), nil, "", ""},
		{"selector", simple(func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "b"} }), node(), nil, "NodeAffinity",
			"Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		{"name", simple(func(p *v1.Pod) { p.Spec.NodeName = "m" }), node(), nil, "NodeName",
			"Predicate NodeName failed: node(s) didn't match the requested node name"},
		{"port", simple(port), node(), []*v1.Pod{simple(port)}, "NodePorts",
			"Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"},
		{"taint", simple(), node(func(n *v1.Node) { n.Spec.Taints = []v1.Taint{{Key: "k", Effect: v1.TaintEffectNoExecute}} }), nil,
			"TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"},
		{"taint that only schedulers mind", simple(), node(func(n *v1.Node) { n.Spec.Taints = []v1.Taint{{Key: "k", Effect: v1.TaintEffectNoSchedule}} }), nil, "", ""},
		{"static pods mind no taint", simple(func(p *v1.Pod) { p.Annotations = map[string]string{podutil.SourceAnnotation: "file"} }),
			node(func(n *v1.Node) { n.Spec.Taints = []v1.Taint{{Key: "k", Effect: v1.TaintEffectNoExecute}} }), nil, "", ""},
		{"system", simple(func(p *v1.Pod) { p.Spec.OS = &v1.PodOS{Name: v1.Windows} }), node(), nil, "PodOSNotSupported",
			"Failed to admit pod as the OS field doesn't match node OS"},
		{"system label", simple(func(p *v1.Pod) { p.Labels = map[string]string{v1.LabelOSStable: "windows"} }), node(), nil,
			"PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"},
		{"groups", simple(func(p *v1.Pod) {
			p.Spec.SecurityContext = &v1.PodSecurityContext{SupplementalGroupsPolicy: ptr.To(v1.SupplementalGroupsPolicyStrict)}
		}), node(), nil, "SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			v := Admit(tc.pod, tc.node, tc.others)
			if v == nil {
				v = &Verdict{}
			}
			if v.Reason != tc.reason || v.Message != tc.message {
				t.Errorf("%s: %s", v.Reason, v.Message)
			}
		})
	}
}

func TestMakeRoom(t *testing.T) {
	node := &v1.Node{Status: v1.NodeStatus{Allocatable: v1.ResourceList{
		v1.ResourcePods: resource.MustParse("10"), v1.ResourceCPU: resource.MustParse("1"),
	}}}
	asks := func(name, cpu string, more ...func(*v1.Pod)) *v1.Pod {
		return simple(append(more, func(p *v1.Pod) {
			p.Name = name
			p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}
		})...)
	}
	static := func(p *v1.Pod) { p.Annotations = map[string]string{podutil.SourceAnnotation: "file"} }
	names := func(pods []*v1.Pod) (out []string) {
		for _, p := range pods {
			out = append(out, p.Name)
		}
		return out
	}
	others := []*v1.Pod{asks("a", "500m"), asks("b", "300m"), asks("c", "200m")}
	tests := []struct {
		name   string
		pod    *v1.Pod
		others []*v1.Pod
		want   []string
	}{
		{"not critical", asks("p", "200m"), others, nil},
		{"the one that is enough", asks("p", "300m", static), others, []string{"b"}},
		{"the largest and what is missing", asks("p", "700m", static), others, []string{"a", "c"}},
		{"not enough", asks("p", "1100m", static), others, nil},
		{"critical ones stay", asks("p", "300m", static), []*v1.Pod{asks("a", "1", static)}, nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := names(MakeRoom(tc.pod, node, tc.others)); !slices.Equal(got, tc.want) {
				t.Errorf("%v", got)
			}
		})
	}
}
