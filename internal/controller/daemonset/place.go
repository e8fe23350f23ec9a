package daemonset

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/controller/podcontrol"
)

// tolerated are the taints that every Pod of a DaemonSet tolerates: a daemon runs on a node that has a problem, too.
var tolerated = []corev1.Toleration{
	{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeDiskPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodePIDPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
}

// networkUnavailable is tolerated by daemons on the node's own network.
var networkUnavailable = corev1.Toleration{Key: corev1.TaintNodeNetworkUnavailable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}

// tolerations returns the tolerations of the DaemonSet's Pods: those of the template and those of every daemon.
func tolerations(spec *corev1.PodSpec) []corev1.Toleration {
	out := slices.Clone(spec.Tolerations)
	always := tolerated
	if spec.HostNetwork {
		always = append(slices.Clone(always), networkUnavailable)
	}
	for _, t := range always {
		i := slices.IndexFunc(out, func(have corev1.Toleration) bool { return have.MatchToleration(&t) })
		if i >= 0 {
			out[i] = t
			continue
		}
		out = append(out, t)
	}
	return out
}

// placer tells on which nodes the Pods of a DaemonSet belong. What does not depend on the node is computed once.
type placer struct {
	name        string
	affinity    nodeaffinity.RequiredNodeAffinity
	tolerations []corev1.Toleration
}

func newPlacer(ds *appsv1.DaemonSet) placer {
	spec := &ds.Spec.Template.Spec
	return placer{
		name:        spec.NodeName,
		affinity:    nodeaffinity.NewRequiredNodeAffinity(spec.NodeSelector, spec.Affinity),
		tolerations: tolerations(spec),
	}
}

// fits reports whether a Pod belongs on the node, and whether one that runs there may stay.
func (p placer) fits(node *corev1.Node) (start, stay bool) {
	if p.name != "" && p.name != node.Name {
		return false, false
	}
	if ok, err := p.affinity.Match(node); err != nil || !ok {
		return false, false
	}
	untolerated := func(effects ...corev1.TaintEffect) bool {
		_, found := corehelpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, p.tolerations,
			func(t *corev1.Taint) bool { return slices.Contains(effects, t.Effect) }, false)
		return found
	}
	if untolerated(corev1.TaintEffectNoExecute) {
		return false, false
	}
	return !untolerated(corev1.TaintEffectNoSchedule), true
}

// target returns the node that a Pod runs on or is made for, "" when it is made for none.
func target(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, f := range term.MatchFields {
				if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
					return f.Values[0]
				}
			}
		}
	}
	return ""
}

// newPod returns the Pod of the DaemonSet for a node. The scheduler binds it to that node and to no other.
func newPod(owner podcontrol.Owner, ds *appsv1.DaemonSet, node, hash string) *corev1.Pod {
	p := podcontrol.FromTemplate(owner, &ds.Spec.Template)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	if generation, ok := templateGeneration(ds); ok {
		p.Labels["pod-template-generation"] = fmt.Sprint(generation)
	}
	p.Labels[appsv1.ControllerRevisionHashLabelKey] = hash
	p.Spec.Tolerations = tolerations(&ds.Spec.Template.Spec)
	onlyThere := &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
		{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}},
	}}}}
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.NodeAffinity == nil {
		p.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	// The node has been held against the affinity of the template: its name alone stands for it.
	p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = onlyThere
	return p
}
