package main

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// workload is a kind of Pod, in a cluster that already has some Pods.
type workload struct {
	name string
	// floor is the rate at 5 000 nodes that Kubernetes requires of its own scheduler, in Pods per second; 0 if
	// there is none.
	floor int
	// before returns the number of preexisting Pods for n nodes. They are of the same kind, or plain.
	before func(n int) int
	plain  bool
	// most returns the maximum number of Pods of the kind on n nodes. Nil means that there is no limit.
	most func(n int) int
	pod  func(*corev1.Pod)
	// there changes the preexisting Pods.
	there func(*corev1.Pod)
	// preempts is set if each Pod must make room by preemption.
	preempts bool
}

// The namespaces of the preexisting Pods and of the measured Pods.
const before, measured = "sched-0", "sched-1"

// highPriority is the class of Pods that preempt.
const highPriority, highPriorityValue = "high", 10

func upTo(most int) func(int) int { return func(n int) int { return min(n, most) } }

var workloads = []workload{
	{name: "basic", floor: 680, before: upTo(1000), plain: true, pod: func(*corev1.Pod) {}},
	{name: "node affinity", floor: 220, before: upTo(5000), pod: func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{
				Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"zone0", "zone1"},
			}}}},
		}}}
	}},
	{name: "preferred anti-affinity", floor: 90, before: upTo(5000), pod: func(p *corev1.Pod) {
		p.Labels = map[string]string{"color": "yellow"}
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight: 1, PodAffinityTerm: term("yellow", corev1.LabelHostname),
		}}}}
	}},
	{name: "required anti-affinity", floor: 60, before: func(n int) int { return n / 5 }, most: func(n int) int { return n*4/5 - 1 }, pod: func(p *corev1.Pod) {
		p.Labels = map[string]string{"color": "green"}
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term("green", corev1.LabelHostname)},
		}}
	}},
	{name: "required affinity", floor: 35, before: upTo(5000), pod: func(p *corev1.Pod) {
		p.Labels = map[string]string{"color": "blue"}
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term("blue", corev1.LabelTopologyZone)},
		}}
	}},
	{name: "topology spread", before: upTo(5000), plain: true, pod: func(p *corev1.Pod) {
		p.Labels = map[string]string{"color": "red"}
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 5, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels},
		}}
	}},
	{name: "preemption", before: func(n int) int { return 4 * n }, most: upTo(200), preempts: true,
		there: func(p *corev1.Pod) { p.Spec.Containers[0].Resources = requests("900m") },
		pod: func(p *corev1.Pod) {
			value := int32(highPriorityValue)
			p.Spec.Priority, p.Spec.PriorityClassName = &value, highPriority
			p.Spec.Containers[0].Resources = requests("3")
		}},
}

func term(color, key string) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"color": color}}, TopologyKey: key, Namespaces: []string{before, measured},
	}
}

func requests(cpu string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("500Mi")}}
}

// first returns the i-th preexisting Pod, measure the i-th measured Pod.
func (w *workload) first(i int) *corev1.Pod {
	p := podOf(before, w.slug(), i)
	switch {
	case w.there != nil:
		w.there(p)
	case !w.plain:
		w.pod(p)
	}
	return p
}

func (w *workload) measure(i int) *corev1.Pod {
	p := podOf(measured, w.slug(), i)
	w.pod(p)
	return p
}

// slug returns the workload's name in a form that is valid in object names.
func (w *workload) slug() string { return strings.ReplaceAll(w.name, " ", "-") }

func podOf(namespace, kind string, i int) *corev1.Pod {
	name, zero := fmt.Sprint(kind, "-", i), int64(0)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + name)},
		Spec: corev1.PodSpec{
			SchedulerName: corev1.DefaultSchedulerName, TerminationGracePeriodSeconds: &zero,
			Containers: []corev1.Container{{Name: "pause", Image: "registry.k8s.io/pause:3.10.2", Ports: []corev1.ContainerPort{{ContainerPort: 80}}, Resources: requests("100m")}},
		},
	}
}

// zones is the number of zones, which the nodes take in turn.
const zones = 3

func nodeOf(i int) *corev1.Node {
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("110")}
	name := nodeName(i)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprint("zone", i%zones)}},
		Status: corev1.NodeStatus{Capacity: list, Allocatable: list, Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Hollow",
		}}},
	}
}

func nodeName(i int) string { return fmt.Sprintf("node-%05d", i) }
