package plugins

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"podium.dev/podium/internal/scheduler/framework"
)

// NodeVolumeLimits keeps a Pod off nodes to which no more volumes of its CSI drivers can be attached, and off
// nodes that lack a driver which Pods must wait for. Volumes of the in-tree cloud providers are not counted.
type NodeVolumeLimits struct {
	Volumes Volumes
}

var refusedVolumeLimit = framework.Refuse(NodeVolumeLimitsName, "node(s) exceed max volume count")

// Name implements framework.Plugin.
func (*NodeVolumeLimits) Name() string { return NodeVolumeLimitsName }

// attachable maps the CSI volumes of a Pod or a node, by driver and handle, to their driver.
type attachable map[volumeKey]string

type volumeKey struct{ driver, handle string }

// Clone implements framework.State; nothing in it changes.
func (a attachable) Clone() framework.State { return a }

// PreFilter implements framework.PreFilterer.
func (l *NodeVolumeLimits) PreFilter(pod *framework.PodInfo, _ *framework.Snapshot) framework.PreFilter {
	own := attachable{}
	for _, c := range claimsOf(pod.Pod) {
		if claim := l.Volumes.Claim(pod.Pod.Namespace, c.name); claim != nil { // VolumeBinding reports missing ones
			l.add(own, claim)
		}
	}
	return framework.PreFilter{State: own, Skip: len(own) == 0}
}

// add adds the claim's volume if it belongs to a CSI driver. A claim without a volume counts for the one that
// will be provisioned.
func (l *NodeVolumeLimits) add(to attachable, claim *corev1.PersistentVolumeClaim) {
	if claim.Spec.VolumeName != "" {
		if volume := l.Volumes.Volume(claim.Spec.VolumeName); volume != nil {
			if csi := volume.Spec.CSI; csi != nil && csi.Driver != "" && csi.VolumeHandle != "" {
				to[volumeKey{csi.Driver, csi.VolumeHandle}] = csi.Driver
			}
			return
		}
	}
	if class := l.Volumes.Class(classOf(claim)); class != nil && class.Provisioner != "" {
		to[volumeKey{class.Provisioner, "claim " + claim.Namespace + "/" + claim.Name}] = class.Provisioner
	}
}

// Filter implements framework.Filterer.
func (l *NodeVolumeLimits) Filter(state framework.State, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	own, _ := state.(attachable)
	if len(own) == 0 {
		return nil
	}
	if driver := l.missing(own, node); driver != "" {
		return framework.Refuse(NodeVolumeLimitsName, driver+" CSI driver is not installed on the node")
	}
	if over := l.over(own, node); over != nil {
		return refusedVolumeLimit
	}
	return nil
}

// missing returns a driver of the volumes that is not on the node and that Pods must wait for, or "" if there
// is none.
func (l *NodeVolumeLimits) missing(own attachable, node *framework.NodeInfo) string {
	for _, name := range slices.Sorted(maps.Values(own)) {
		driver := l.Volumes.Driver(name)
		if driver == nil || driver.Spec.PreventPodSchedulingIfMissing == nil || !*driver.Spec.PreventPodSchedulingIfMissing {
			continue
		}
		have := l.Volumes.Drivers(node.Node.Name)
		if have == nil || !slices.ContainsFunc(have.Spec.Drivers, func(d storagev1.CSINodeDriver) bool { return d.Name == name }) {
			return name
		}
	}
	return ""
}

// overLimit is a driver whose limit on a node the volumes would exceed.
type overLimit struct {
	driver           string
	needs, used, has int
}

// over returns a driver whose limit the volumes would exceed on the node, or nil if there is none.
func (l *NodeVolumeLimits) over(own attachable, node *framework.NodeInfo) *overLimit {
	limits := limitsOf(l.Volumes.Drivers(node.Node.Name))
	if len(limits) == 0 {
		return nil
	}
	there := attachable{}
	for _, p := range node.Pods {
		for _, c := range claimsOf(p.Pod) {
			if claim := l.Volumes.Claim(p.Pod.Namespace, c.name); claim != nil {
				l.add(there, claim)
			}
		}
	}
	for _, a := range l.Volumes.Attachments(node.Node.Name) {
		if a.Spec.Attacher == "" || a.Spec.Source.PersistentVolumeName == nil {
			continue
		}
		if volume := l.Volumes.Volume(*a.Spec.Source.PersistentVolumeName); volume != nil && volume.Spec.CSI != nil {
			there[volumeKey{a.Spec.Attacher, volume.Spec.CSI.VolumeHandle}] = a.Spec.Attacher
		}
	}
	used, needs := map[string]int{}, map[string]int{}
	for _, driver := range there {
		used[driver]++
	}
	for key, driver := range own {
		if _, shared := there[key]; !shared {
			needs[driver]++
		}
	}
	for _, driver := range slices.Sorted(maps.Keys(needs)) {
		if has, limited := limits[driver]; limited && used[driver]+needs[driver] > has {
			return &overLimit{driver, needs[driver], used[driver], has}
		}
	}
	return nil
}

// limitsOf returns how many volumes of each driver can be attached to a node. Drivers without a limit are left
// out.
func limitsOf(node *storagev1.CSINode) map[string]int {
	if node == nil {
		return nil
	}
	out := map[string]int{}
	for _, d := range node.Spec.Drivers {
		if d.Allocatable != nil && d.Allocatable.Count != nil {
			out[d.Name] = int(*d.Allocatable.Count)
		}
	}
	return out
}

// Hints implements framework.Hinter.
func (l *NodeVolumeLimits) Hints() []framework.Hint {
	return []framework.Hint{
		{Kinds: framework.ClaimChange | framework.NodeAdd},
		{Kinds: framework.PodGone, Helps: func(_ *framework.PodInfo, e framework.Event) bool {
			gone, ok := e.Old.(*framework.PodInfo)
			return !ok || len(claimsOf(gone.Pod)) > 0
		}},
	}
}

// Explain implements framework.Explainer.
func (l *NodeVolumeLimits) Explain(state framework.State, _ *framework.PodInfo, node *framework.NodeInfo) []framework.Detail {
	own, _ := state.(attachable)
	if driver := l.missing(own, node); driver != "" {
		return []framework.Detail{{
			Plugin: NodeVolumeLimitsName, Reason: driver + " CSI driver is not installed on the node",
			Text: fmt.Sprintf("the CSI driver %s has not registered on the node", driver), Fix: "run the driver on the node",
		}}
	}
	over := l.over(own, node)
	if over == nil {
		return nil
	}
	return []framework.Detail{{
		Plugin: NodeVolumeLimitsName, Reason: refusedVolumeLimit.Message(),
		Text: fmt.Sprintf("needs %d volumes of %s, %d free of %d", over.needs, over.driver, max(over.has-over.used, 0), over.has),
		Fix:  "delete a pod with such volumes from the node, or add a node",
	}}
}
