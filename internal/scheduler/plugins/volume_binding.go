package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"podium.dev/podium/internal/scheduler/framework"
)

// Volumes looks up the objects behind a Pod's persistent volumes. Its methods return nil for an object that
// does not exist.
type Volumes interface {
	Claim(namespace, name string) *corev1.PersistentVolumeClaim
	Volume(name string) *corev1.PersistentVolume
	Class(name string) *storagev1.StorageClass
	// Drivers returns the CSI drivers of a node, Driver a driver that is registered in the cluster.
	Drivers(node string) *storagev1.CSINode
	Driver(name string) *storagev1.CSIDriver
	// Attachments returns the volumes that are attached to a node or about to be attached.
	Attachments(node string) []*storagev1.VolumeAttachment
}

// VolumeBinding holds a Pod back until its claims are bound, and then restricts it to the nodes that can reach
// its volumes. It does not bind claims itself.
type VolumeBinding struct {
	Volumes Volumes
}

var (
	refusedUnbound     = framework.RefuseForGood(VolumeBindingName, "pod has unbound immediate PersistentVolumeClaims")
	refusedNoVolume    = framework.RefuseForGood(VolumeBindingName, "node(s) didn't find available persistent volumes to bind")
	refusedVolumeNode  = framework.RefuseForGood(VolumeBindingName, "node(s) didn't match PersistentVolume's node affinity")
	refusedVolumeIsOff = framework.RefuseForGood(VolumeBindingName, "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")
)

// Name implements framework.Plugin.
func (*VolumeBinding) Name() string { return VolumeBindingName }

// bound is what one decision knows about the Pod's volumes.
type bound struct {
	// reach lists, for each bound volume, the nodes that can reach it.
	reach []reach
	// missing is set if a claim is bound to a volume that does not exist, waiting if a claim is bound only once
	// its Pod has a node.
	missing, waiting bool
}

// reach is the set of nodes that can reach a volume: any node that a term selects.
type reach struct{ terms []framework.NodeTerm }

func (r reach) has(node *corev1.Node) bool {
	for i := range r.terms {
		if r.terms[i].Matches(node) {
			return true
		}
	}
	return false
}

// Clone implements framework.State; nothing in it changes.
func (b *bound) Clone() framework.State { return b }

// PreFilter implements framework.PreFilterer.
func (v *VolumeBinding) PreFilter(pod *framework.PodInfo, _ *framework.Snapshot) framework.PreFilter {
	claims := claimsOf(pod.Pod)
	if len(claims) == 0 {
		return framework.PreFilter{Skip: true}
	}
	b := &bound{}
	for _, c := range claims {
		claim := v.Volumes.Claim(pod.Pod.Namespace, c.name)
		if why := unusable(pod.Pod, c, claim); why != "" {
			return framework.PreFilter{Refused: framework.RefuseForGood(VolumeBindingName, why)}
		}
		if claim.Spec.VolumeName == "" {
			if !v.waits(claim) {
				return framework.PreFilter{Refused: refusedUnbound}
			}
			b.waiting = true
			continue
		}
		volume := v.Volumes.Volume(claim.Spec.VolumeName)
		if volume == nil {
			b.missing = true
			continue
		}
		if volume.Spec.NodeAffinity == nil || volume.Spec.NodeAffinity.Required == nil {
			continue
		}
		var r reach
		for i := range volume.Spec.NodeAffinity.Required.NodeSelectorTerms {
			t, err := framework.NewNodeTerm(&volume.Spec.NodeAffinity.Required.NodeSelectorTerms[i])
			if err != nil {
				err = fmt.Errorf("read the node affinity of persistent volume %s: %w", volume.Name, err)
				return framework.PreFilter{Refused: framework.Fail(VolumeBindingName, err)}
			}
			r.terms = append(r.terms, t)
		}
		b.reach = append(b.reach, r)
	}
	return framework.PreFilter{State: b}
}

// usedClaim is a claim that a Pod uses. An ephemeral one is created for the Pod.
type usedClaim struct {
	name      string
	ephemeral bool
}

func claimsOf(pod *corev1.Pod) []usedClaim {
	var out []usedClaim
	for i := range pod.Spec.Volumes {
		switch volume := &pod.Spec.Volumes[i]; {
		case volume.PersistentVolumeClaim != nil:
			out = append(out, usedClaim{volume.PersistentVolumeClaim.ClaimName, false})
		case volume.Ephemeral != nil:
			out = append(out, usedClaim{pod.Name + "-" + volume.Name, true})
		}
	}
	return out
}

// unusable returns why a claim cannot be used at all, or "" if it can.
func unusable(pod *corev1.Pod, used usedClaim, claim *corev1.PersistentVolumeClaim) string {
	switch {
	case claim == nil && used.ephemeral:
		return fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", used.name)
	case claim == nil:
		return fmt.Sprintf("persistentvolumeclaim %q not found", used.name)
	case claim.Status.Phase == corev1.ClaimLost:
		return fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", claim.Name, claim.Spec.VolumeName)
	case claim.DeletionTimestamp != nil:
		return fmt.Sprintf("persistentvolumeclaim %q is being deleted", claim.Name)
	case used.ephemeral && !ownedBy(claim, pod):
		return fmt.Sprintf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", claim.Namespace, claim.Name, pod.Namespace, pod.Name)
	}
	return ""
}

func ownedBy(claim *corev1.PersistentVolumeClaim, pod *corev1.Pod) bool {
	for _, ref := range claim.OwnerReferences {
		if ref.UID == pod.UID && ref.Controller != nil && *ref.Controller {
			return true
		}
	}
	return false
}

// waits reports whether the claim's class binds claims once their Pod has a node (WaitForFirstConsumer).
func (v *VolumeBinding) waits(claim *corev1.PersistentVolumeClaim) bool {
	name := classOf(claim)
	if name == "" {
		return false
	}
	class := v.Volumes.Class(name)
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// Filter implements framework.Filterer.
func (v *VolumeBinding) Filter(state framework.State, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	b, ok := state.(*bound)
	if !ok {
		return nil
	}
	switch {
	case b.missing:
		return refusedVolumeIsOff
	case b.waiting:
		return refusedNoVolume
	}
	for _, r := range b.reach {
		if !r.has(node.Node) {
			return refusedVolumeNode
		}
	}
	return nil
}

// Hints implements framework.Hinter.
func (v *VolumeBinding) Hints() []framework.Hint {
	return []framework.Hint{{Kinds: framework.ClaimChange | framework.NodeAdd | framework.NodeLabels}}
}

// Explain implements framework.Explainer.
func (v *VolumeBinding) Explain(state framework.State, pod *framework.PodInfo, node *framework.NodeInfo) []framework.Detail {
	b, ok := state.(*bound)
	if !ok {
		return nil
	}
	status := v.Filter(state, pod, node)
	d := framework.Detail{Plugin: VolumeBindingName, Reason: status.Message()}
	switch {
	case b.missing:
		d.Text, d.Fix = "a claim of the pod is bound to a persistent volume that does not exist", "recreate the volume or the claim"
	case b.waiting:
		d.Text, d.Fix = "a claim of the pod has no volume yet", "bind the claim to a PersistentVolume by its spec.volumeName: nothing provisions one here"
	default:
		d.Text, d.Fix = "the volume's node affinity excludes the node", "add a node that the volume's node affinity selects"
	}
	return []framework.Detail{d}
}
