package profile_test

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/scheduler/framework"
)

// workload is a kind of Pod, modeled on those that Kubernetes' scheduler_perf measures.
type workload struct {
	name string
	// before is the number of Pods of the kind, and plain the number of plain Pods, placed before the clock
	// starts.
	before, plain int
	pod           func(*corev1.Pod)
}

func term(app, key string) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, TopologyKey: key}
}

var workloads = []workload{
	{"basic", 1000, 0, func(*corev1.Pod) {}},
	{"node-affinity", 1000, 0, func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{
				Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"zone-0", "zone-1"},
			}}}},
		}}}
	}},
	{"preferred-anti-affinity", 1000, 1000, func(p *corev1.Pod) {
		p.Labels["app"] = "green"
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight: 1, PodAffinityTerm: term("green", corev1.LabelHostname),
		}}}}
	}},
	{"required-anti-affinity", 500, 500, func(p *corev1.Pod) {
		p.Labels["app"] = "green"
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term("green", corev1.LabelHostname)},
		}}
	}},
	{"required-affinity", 1000, 1000, func(p *corev1.Pod) {
		p.Labels["app"] = "blue"
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term("blue", "zone")},
		}}
	}},
	{"topology-spread", 1000, 1000, func(p *corev1.Pod) {
		p.Labels["app"] = "blue"
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 5, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "blue"}},
		}}
	}},
}

func benchPod(i int, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("pod-", i), UID: types.UID(fmt.Sprint("pod-", i)), Namespace: "s", Labels: map[string]string{"name": "test"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: "registry/pause:1", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("500Mi"),
		}}}}},
	}
	change(p)
	return p
}

func benchNodes(g *rig, n int) {
	for i := range n {
		g.cache.SetNode(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("node-", i), Labels: map[string]string{
				corev1.LabelHostname: fmt.Sprint("node-", i), "zone": fmt.Sprint("zone-", i%10), "os": "linux", "arch": "amd64",
			}},
			Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("110"),
			}},
		})
	}
}

// schedule decides on a Pod and counts it as placed.
func (r *rig) schedule(b *testing.B, p *corev1.Pod) {
	info := framework.NewPodInfo(p)
	r.cache.Update(r.snapshot)
	cycle, whole := r.profile.Begin(info, r.snapshot)
	if whole != nil {
		b.Fatal(whole.Message())
	}
	fitting, failed := cycle.Find()
	if failed != nil || len(fitting) == 0 {
		b.Fatalf("%s: %s", p.Name, cycle.Refusal(nil, framework.PostFilter{}).Message)
	}
	node := cycle.Choose(fitting).Node.Name
	bound := *p
	bound.Spec.NodeName = node
	placed := *info
	placed.Pod = &bound
	if err := r.cache.Assume(&placed, node); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDecision measures the scheduler alone, without an API server, in Pods decided per second.
func BenchmarkDecision(b *testing.B) {
	for _, nodes := range []int{100, 1000, 5000} {
		for _, w := range workloads {
			b.Run(fmt.Sprintf("%s/%d", w.name, nodes), func(b *testing.B) {
				g := newRig(b)
				benchNodes(g, nodes)
				next := 0
				// Pods of the kind fill at most half of the cluster; then it is emptied.
				limit := nodes * 5
				if w.name == "required-anti-affinity" {
					limit = nodes * 8 / 10
				}
				fill := func() {
					for i := range w.plain {
						g.schedule(b, benchPod(-i-1, func(*corev1.Pod) {}))
					}
					for range min(w.before, limit/2) {
						g.schedule(b, benchPod(next, w.pod))
						next++
					}
				}
				fill()
				b.ResetTimer()
				for range b.N {
					if next >= limit {
						b.StopTimer()
						g = newRig(b)
						benchNodes(g, nodes)
						next = 0
						fill()
						b.StartTimer()
					}
					g.schedule(b, benchPod(next, w.pod))
					next++
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
			})
		}
	}
}

// BenchmarkPreemption measures decisions in a full cluster that end in a preemption.
func BenchmarkPreemption(b *testing.B) {
	for _, nodes := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprint(nodes), func(b *testing.B) {
			g := newRig(b)
			benchNodes(g, nodes)
			big := func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("900m")
			}
			for i := range 4 * nodes {
				g.schedule(b, benchPod(i, big))
			}
			high := int32(10)
			b.ResetTimer()
			for i := range b.N {
				g.preempted = nil
				g.cache.Update(g.snapshot)
				p := benchPod(1<<30+i, func(p *corev1.Pod) {
					p.Spec.Priority = &high
					p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("3")
				})
				cycle, _ := g.profile.Begin(framework.NewPodInfo(p), g.snapshot)
				if fitting, _ := cycle.Find(); len(fitting) > 0 {
					b.Fatal("it fits")
				}
				if cycle.PostFilter(context.Background()).Nominated == "" || len(g.preempted) != 1 {
					b.Fatal("no preemption")
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
		})
	}
}

// BenchmarkPodInfo measures NewPodInfo, which runs for every watch event of a Pod.
func BenchmarkPodInfo(b *testing.B) {
	p := benchPod(1, workloads[3].pod)
	b.ReportAllocs()
	for range b.N {
		framework.NewPodInfo(p)
	}
}
