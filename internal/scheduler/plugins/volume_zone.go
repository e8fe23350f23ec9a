package plugins

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"podium.dev/podium/internal/scheduler/framework"
)

// VolumeZone restricts a Pod to the nodes in the zones and regions that the labels of its volumes name.
type VolumeZone struct {
	Volumes Volumes
}

var refusedZone = framework.RefuseForGood(VolumeZoneName, "node(s) had no available volume zone")

// Name implements framework.Plugin.
func (*VolumeZone) Name() string { return VolumeZoneName }

// zoneLabels are the labels of a volume that name places, and the newer names of the old labels.
var (
	zoneLabels = []string{
		corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion, corev1.LabelTopologyZone, corev1.LabelTopologyRegion,
	}
	newerLabel = map[string]string{
		corev1.LabelFailureDomainBetaZone: corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
	}
)

// volumeZones holds where the Pod's volumes are.
type volumeZones []volumeZone

type volumeZone struct {
	volume, key string
	values      sets.Set[string]
}

// Clone implements framework.State; nothing in it changes.
func (z volumeZones) Clone() framework.State { return z }

// PreFilter implements framework.PreFilterer.
func (v *VolumeZone) PreFilter(pod *framework.PodInfo, _ *framework.Snapshot) framework.PreFilter {
	var zones volumeZones
	for i := range pod.Pod.Spec.Volumes {
		if pod.Pod.Spec.Volumes[i].PersistentVolumeClaim == nil {
			continue
		}
		found, why := v.zonesOf(pod.Pod.Namespace, pod.Pod.Spec.Volumes[i].PersistentVolumeClaim.ClaimName)
		if why != "" {
			return framework.PreFilter{Refused: framework.RefuseForGood(VolumeZoneName, why)}
		}
		zones = append(zones, found...)
	}
	return framework.PreFilter{State: zones, Skip: len(zones) == 0}
}

// zonesOf returns where the claim's volume is. It returns nothing for a claim that is bound once the Pod has a
// node. why is set if an object is missing.
func (v *VolumeZone) zonesOf(namespace, name string) (zones volumeZones, why string) {
	claim := v.Volumes.Claim(namespace, name)
	if claim == nil {
		return nil, fmt.Sprintf("persistentvolumeclaim %q not found", name)
	}
	if claim.Spec.VolumeName == "" {
		return nil, v.unbound(claim)
	}
	volume := v.Volumes.Volume(claim.Spec.VolumeName)
	if volume == nil {
		return nil, fmt.Sprintf("persistentvolume %q not found", claim.Spec.VolumeName)
	}
	for _, key := range zoneLabels {
		if value, ok := volume.Labels[key]; ok {
			zones = append(zones, volumeZone{volume.Name, key, sets.New(strings.Split(value, "__")...)})
		}
	}
	return zones, ""
}

// unbound returns what is wrong with a claim that has no volume, or "" if it gets one once the Pod has a node.
func (v *VolumeZone) unbound(claim *corev1.PersistentVolumeClaim) string {
	name := classOf(claim)
	if name == "" {
		return "PersistentVolumeClaim had no pv name and storageClass name"
	}
	class := v.Volumes.Class(name)
	switch {
	case class == nil:
		return fmt.Sprintf("storageclass.storage.k8s.io %q not found", name)
	case class.VolumeBindingMode == nil:
		return fmt.Sprintf("VolumeBindingMode not set for StorageClass %q", name)
	case *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer:
		return ""
	}
	return "PersistentVolume had no name"
}

// classOf returns the name of a claim's storage class, or "" if it has none. The annotation predates the field.
func classOf(claim *corev1.PersistentVolumeClaim) string {
	if name, ok := claim.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return name
	}
	if claim.Spec.StorageClassName != nil {
		return *claim.Spec.StorageClassName
	}
	return ""
}

// Filter implements framework.Filterer. A node without zone labels accepts every volume.
func (v *VolumeZone) Filter(state framework.State, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	zones, _ := state.(volumeZones)
	if zones.elsewhere(node.Node) != nil {
		return refusedZone
	}
	return nil
}

// elsewhere returns the first place of a volume that the node is not in, or nil if there is none.
func (z volumeZones) elsewhere(node *corev1.Node) *volumeZone {
	said := false
	for _, key := range zoneLabels {
		_, ok := node.Labels[key]
		said = said || ok
	}
	if !said {
		return nil
	}
	for i := range z {
		value, ok := node.Labels[z[i].key]
		if !ok {
			value, ok = node.Labels[newerLabel[z[i].key]]
		}
		if !ok || !z[i].values.Has(value) {
			return &z[i]
		}
	}
	return nil
}

// Hints implements framework.Hinter.
func (v *VolumeZone) Hints() []framework.Hint {
	return []framework.Hint{{Kinds: framework.ClaimChange | framework.NodeAdd | framework.NodeLabels}}
}

// Explain implements framework.Explainer.
func (v *VolumeZone) Explain(state framework.State, _ *framework.PodInfo, node *framework.NodeInfo) []framework.Detail {
	zones, _ := state.(volumeZones)
	at := zones.elsewhere(node.Node)
	if at == nil {
		return nil
	}
	return []framework.Detail{{
		Plugin: VolumeZoneName, Reason: refusedZone.Message(),
		Text: fmt.Sprintf("persistent volume %s is in %s %s, the node is not", at.volume, at.key, strings.Join(sets.List(at.values), " or ")),
		Fix:  "add a node there, or use a volume that this node can reach",
	}}
}
