package evict

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"podium.dev/podium/internal/podutil"
)

// Limited reports whether the Pod is held to a bound on disk that the node must measure for.
func Limited(p *v1.Pod) bool {
	if _, ok := storageLimit(p); ok {
		return true
	}
	return slices.ContainsFunc(p.Spec.Volumes, func(v v1.Volume) bool { return volumeLimit(&v) != nil })
}

// Exceeds says how the Pod keeps more on disk than it may, "" when it does not: in a volume, in all, or in one
// container. Containers' layers that are on a file system of their own are not held to their container's limit.
func Exceeds(p *v1.Pod, use *stats.PodStats, l Layout) string {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		limit := volumeLimit(v)
		if used, known := volumeUse(use, v.Name); limit != nil && known && bytesOf(used).Cmp(*limit) > 0 {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())
		}
	}
	if limit, ok := storageLimit(p); ok && use.EphemeralStorage != nil {
		if bytesOf(value(use.EphemeralStorage.UsedBytes)).Cmp(limit) > 0 {
			return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
		}
	}
	for i := range use.Containers {
		c := &use.Containers[i]
		limit := containerLimit(p, c.Name)
		if limit == nil {
			continue
		}
		bytes, _ := diskOf(p, &stats.PodStats{Containers: []stats.ContainerStats{*c}}, parts{logs: true, layers: !l.DedicatedImages})
		if bytesOf(bytes).Cmp(*limit) > 0 {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
		}
	}
	return ""
}

// volumeLimit is the size that an emptyDir may have, nil for any.
func volumeLimit(v *v1.Volume) *resource.Quantity {
	if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
		return nil
	}
	return v.EmptyDir.SizeLimit
}

func volumeUse(use *stats.PodStats, name string) (bytes int64, known bool) {
	for i := range use.VolumeStats {
		if v := &use.VolumeStats[i]; v.Name == name && v.UsedBytes != nil {
			return value(v.UsedBytes), true
		}
	}
	return 0, false
}

// storageLimit is what the Pod's containers together may keep on disk.
func storageLimit(p *v1.Pod) (limit resource.Quantity, ok bool) {
	limit, ok = resourcehelper.PodLimits(p, resourcehelper.PodResourcesOptions{})[v1.ResourceEphemeralStorage]
	return limit, ok
}

// containerLimit is what a container or sidecar may keep on disk, nil for any amount.
func containerLimit(p *v1.Pod, name string) *resource.Quantity {
	c := containerOf(p, name)
	if c == nil || (slices.ContainsFunc(p.Spec.InitContainers, func(i v1.Container) bool { return i.Name == name }) &&
		!podutil.IsSidecar(c)) {
		return nil
	}
	if limit := c.Resources.Limits.StorageEphemeral(); limit != nil && !limit.IsZero() {
		return limit
	}
	return nil
}
