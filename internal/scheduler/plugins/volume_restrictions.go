package plugins

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"podium.dev/podium/internal/scheduler/framework"
)

// VolumeRestrictions keeps a Pod off nodes where another Pod mounts one of its disks in a way that excludes
// sharing. It keeps it off all nodes while another Pod uses one of its ReadWriteOncePod claims.
type VolumeRestrictions struct {
	Volumes Volumes
}

var (
	refusedDisk  = framework.Refuse(VolumeRestrictionsName, "node(s) had no available disk")
	refusedClaim = framework.Refuse(VolumeRestrictionsName, "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod")
)

// Name implements framework.Plugin.
func (*VolumeRestrictions) Name() string { return VolumeRestrictionsName }

// soleClaims counts the other Pods that use each ReadWriteOncePod claim of the Pod.
type soleClaims struct {
	users map[string]int
	disks bool
}

// Clone implements framework.State.
func (s *soleClaims) Clone() framework.State { return &soleClaims{maps.Clone(s.users), s.disks} }

func (s *soleClaims) count(pod, other *framework.PodInfo, n int) {
	if pod.Pod.Namespace != other.Pod.Namespace {
		return
	}
	for _, c := range claimsOf(other.Pod) {
		if _, sole := s.users[c.name]; sole {
			s.users[c.name] += n
		}
	}
}

// PreFilter implements framework.PreFilterer.
func (v *VolumeRestrictions) PreFilter(pod *framework.PodInfo, snapshot *framework.Snapshot) framework.PreFilter {
	s := &soleClaims{users: map[string]int{}, disks: slices.ContainsFunc(pod.Pod.Spec.Volumes, exclusive)}
	for _, c := range claimsOf(pod.Pod) {
		claim := v.Volumes.Claim(pod.Pod.Namespace, c.name)
		if claim != nil && slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
			s.users[c.name] = 0
		}
	}
	if len(s.users) > 0 {
		for _, node := range snapshot.Nodes {
			for _, p := range node.Pods {
				s.count(pod, p, 1)
			}
		}
	}
	return framework.PreFilter{State: s, Skip: len(s.users) == 0 && !s.disks}
}

// PodAdded implements framework.Adjuster.
func (v *VolumeRestrictions) PodAdded(state framework.State, pod, added *framework.PodInfo, _ *framework.NodeInfo) {
	if s, ok := state.(*soleClaims); ok {
		s.count(pod, added, 1)
	}
}

// PodRemoved implements framework.Adjuster.
func (v *VolumeRestrictions) PodRemoved(state framework.State, pod, removed *framework.PodInfo, _ *framework.NodeInfo) {
	if s, ok := state.(*soleClaims); ok {
		s.count(pod, removed, -1)
	}
}

// Filter implements framework.Filterer.
func (v *VolumeRestrictions) Filter(state framework.State, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	s, ok := state.(*soleClaims)
	if !ok {
		return nil
	}
	if s.disks {
		for _, other := range node.Pods {
			if disksConflict(pod.Pod, other.Pod) {
				return refusedDisk
			}
		}
	}
	for _, n := range s.users {
		if n > 0 {
			return refusedClaim
		}
	}
	return nil
}

// exclusive reports whether the volume is of a kind that may exclude others.
func exclusive(v corev1.Volume) bool {
	return v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil || v.ISCSI != nil || v.RBD != nil
}

// disksConflict reports whether two Pods mount the same disk and at least one of them writes to it.
func disksConflict(a, b *corev1.Pod) bool {
	for i := range a.Spec.Volumes {
		if !exclusive(a.Spec.Volumes[i]) {
			continue
		}
		for j := range b.Spec.Volumes {
			if sameDisk(&a.Spec.Volumes[i], &b.Spec.Volumes[j]) {
				return true
			}
		}
	}
	return false
}

func sameDisk(a, b *corev1.Volume) bool {
	switch {
	case a.GCEPersistentDisk != nil && b.GCEPersistentDisk != nil:
		x, y := a.GCEPersistentDisk, b.GCEPersistentDisk
		return x.PDName == y.PDName && !(x.ReadOnly && y.ReadOnly)
	case a.AWSElasticBlockStore != nil && b.AWSElasticBlockStore != nil:
		return a.AWSElasticBlockStore.VolumeID == b.AWSElasticBlockStore.VolumeID
	case a.ISCSI != nil && b.ISCSI != nil:
		return a.ISCSI.IQN == b.ISCSI.IQN && !(a.ISCSI.ReadOnly && b.ISCSI.ReadOnly)
	case a.RBD != nil && b.RBD != nil:
		x, y := a.RBD, b.RBD
		return sets.New(x.CephMonitors...).HasAny(y.CephMonitors...) && x.RBDPool == y.RBDPool && x.RBDImage == y.RBDImage && !(x.ReadOnly && y.ReadOnly)
	}
	return false
}

// Hints implements framework.Hinter.
func (v *VolumeRestrictions) Hints() []framework.Hint {
	return []framework.Hint{
		{Kinds: framework.NodeAdd | framework.ClaimChange},
		{Kinds: framework.PodGone, Helps: func(pod *framework.PodInfo, e framework.Event) bool {
			gone, ok := e.Old.(*framework.PodInfo)
			if !ok || disksConflict(pod.Pod, gone.Pod) {
				return true
			}
			s := &soleClaims{users: map[string]int{}}
			for _, c := range claimsOf(pod.Pod) {
				s.users[c.name] = 0
			}
			s.count(pod, gone, 1)
			for _, n := range s.users {
				if n > 0 {
					return true
				}
			}
			return false
		}},
	}
}
