package evict

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	corev1 "k8s.io/component-helpers/scheduling/corev1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Usage returns what a Pod uses, and whether that is known.
type Usage func(p *v1.Pod) (stats.PodStats, bool)

// parts are the parts of a Pod that lie on a file system.
type parts struct{ layers, logs, volumes bool }

// weighs says which parts of Pods weigh on the file system of a signal.
func weighs(s Signal, l Layout) parts {
	switch {
	case l.DedicatedImages && !l.SplitContainers:
		if s == NodeFsAvailable || s == NodeFsInodesFree {
			return parts{logs: true, volumes: true}
		}
		return parts{layers: true}
	case l.DedicatedImages && (s == ImageFsAvailable || s == ImageFsInodesFree):
		return parts{} // images are no Pod's own
	}
	return parts{layers: true, logs: true, volumes: true}
}

// Rank orders Pods by who goes first when a signal is short. A Pod of which nothing is known goes before all others
// of its kind. Then, for memory, disk and inodes: Pods that use more than they request, those of lower priority, those
// that use most beyond their request; for process IDs: those of lower priority, those with the most processes.
func Rank(pods []*v1.Pod, s Signal, l Layout, usage Usage) {
	var less []func(a, b *candidate) int
	switch s.resource() {
	case v1.ResourceMemory:
		less = []func(a, b *candidate) int{byExceeding, byPriority, byExcess}
	case resourcePIDs:
		less = []func(a, b *candidate) int{byPriority, byExcess}
	default:
		less = []func(a, b *candidate) int{byExceeding, byPriority, byExcess}
	}
	all := make([]candidate, len(pods))
	for i, p := range pods {
		all[i] = weigh(p, s, l, usage)
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		for _, f := range less {
			if c := f(&a, &b); c != 0 {
				return c
			}
		}
		return 0
	})
	for i := range all {
		pods[i] = all[i].pod
	}
}

// candidate is a Pod with what counts of it.
type candidate struct {
	pod   *v1.Pod
	known bool
	// exceeding reports whether it uses more than it requests, excess by how much (below 0 for less).
	exceeding bool
	excess    int64
}

func byExceeding(a, b *candidate) int {
	if !a.known || !b.known {
		return first(!a.known, !b.known)
	}
	return first(a.exceeding, b.exceeding)
}

func byPriority(a, b *candidate) int {
	return cmp.Compare(corev1.PodPriority(a.pod), corev1.PodPriority(b.pod))
}

func byExcess(a, b *candidate) int {
	if !a.known || !b.known {
		return first(!a.known, !b.known)
	}
	return cmp.Compare(b.excess, a.excess)
}

// first puts true before false.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func weigh(p *v1.Pod, s Signal, l Layout, usage Usage) candidate {
	c := candidate{pod: p}
	use, known := usage(p)
	if !known {
		return c
	}
	c.known = true
	var used int64
	what := s.resource()
	switch what {
	case v1.ResourceMemory:
		used = memoryOf(&use)
	case resourcePIDs:
		if use.ProcessStats != nil {
			used = value(use.ProcessStats.ProcessCount)
		}
		c.excess = used
		return c
	default:
		bytes, inodes := diskOf(p, &use, weighs(s, l))
		used = bytes
		if what == resourceInodes {
			used = inodes
		}
	}
	requested := request(p, what)
	c.exceeding = used > requested
	if what == resourceInodes {
		// Nothing requests inodes. What is beyond is counted against the requested bytes all the same: the kubelet's way.
		requested = request(p, v1.ResourceEphemeralStorage)
	}
	c.excess = used - requested
	return c
}

// request is what the Pod asks for: as a whole where it says so, else in all its containers, and its overhead where it
// asks for anything.
func request(p *v1.Pod, name v1.ResourceName) int64 {
	list := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{
		SkipContainerLevelResources: resourcehelper.IsPodLevelResourcesSet(p), ExcludeOverhead: true,
	})
	q := list[name]
	if over, ok := p.Spec.Overhead[name]; ok && !q.IsZero() {
		q.Add(over)
	}
	return q.Value()
}

func memoryOf(use *stats.PodStats) int64 {
	if use.Memory == nil {
		return 0
	}
	return value(use.Memory.WorkingSetBytes)
}

// diskOf is what the Pod has on disk of these parts.
func diskOf(p *v1.Pod, use *stats.PodStats, of parts) (bytes, inodes int64) {
	add := func(fs *stats.FsStats) {
		if fs != nil {
			bytes += value(fs.UsedBytes)
			inodes += value(fs.InodesUsed)
		}
	}
	for i := range use.Containers {
		if of.layers {
			add(use.Containers[i].Rootfs)
		}
		if of.logs {
			add(use.Containers[i].Logs)
		}
	}
	if !of.volumes {
		return bytes, inodes
	}
	for i := range use.VolumeStats {
		v := &use.VolumeStats[i]
		if slices.ContainsFunc(p.Spec.Volumes, func(have v1.Volume) bool { return have.Name == v.Name && local(&have) }) {
			add(&v.FsStats)
		}
	}
	return bytes, inodes
}

// local reports whether the volume lies on the node's own disk.
func local(v *v1.Volume) bool {
	return v.HostPath != nil || v.ConfigMap != nil || (v.EmptyDir != nil && v.EmptyDir.Medium == v1.StorageMediumDefault)
}

func value(n *uint64) int64 {
	if n == nil {
		return 0
	}
	return int64(*n)
}

// bytesOf writes an amount of bytes as messages do.
func bytesOf(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.BinarySI) }
