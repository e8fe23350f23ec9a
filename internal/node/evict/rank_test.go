package evict

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// subject is a Pod and what it uses; request and limit are of one container, "" for none.
type subject struct {
	name                            string
	priority                        int32
	request                         string // of memory and ephemeral storage
	memory, processes               int64
	layer, logs, volume, memoryDisk int64 // on disk; the inodes are a thousandth
	unknown                         bool
}

func (s subject) pod() *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: s.name, UID: types.UID(s.name)},
		Spec: v1.PodSpec{
			Priority: &s.priority, Containers: []v1.Container{{Name: "c"}},
			Volumes: []v1.Volume{
				{Name: "disk", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
				{Name: "memory", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}}},
			},
		},
	}
	if s.request != "" {
		q := resource.MustParse(s.request)
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceMemory: q, v1.ResourceEphemeralStorage: q}
	}
	return p
}

func number(n int64) *uint64 {
	u := uint64(n)
	return &u
}

func onDisk(n int64) stats.FsStats {
	return stats.FsStats{UsedBytes: number(n), InodesUsed: number(n / 1000)}
}

func (s subject) use() stats.PodStats {
	layer, logs := onDisk(s.layer), onDisk(s.logs)
	return stats.PodStats{
		Memory:       &stats.MemoryStats{WorkingSetBytes: number(s.memory)},
		ProcessStats: &stats.ProcessStats{ProcessCount: number(s.processes)},
		Containers:   []stats.ContainerStats{{Name: "c", Rootfs: &layer, Logs: &logs, Memory: &stats.MemoryStats{WorkingSetBytes: number(s.memory)}}},
		VolumeStats:  []stats.VolumeStats{{Name: "disk", FsStats: onDisk(s.volume)}, {Name: "memory", FsStats: onDisk(s.memoryDisk)}},
	}
}

func ranked(s Signal, l Layout, subjects ...subject) (order []string) {
	uses := map[types.UID]subject{}
	var pods []*v1.Pod
	for _, each := range subjects {
		uses[types.UID(each.name)] = each
		pods = append(pods, each.pod())
	}
	Rank(pods, s, l, func(p *v1.Pod) (stats.PodStats, bool) { return uses[p.UID].use(), !uses[p.UID].unknown })
	for _, p := range pods {
		order = append(order, p.Name)
	}
	return order
}

func TestRank(t *testing.T) {
	for name, tc := range map[string]struct {
		signal   Signal
		layout   Layout
		subjects []subject
		want     []string
	}{
		"memory: beyond the request, then priority, then by how much": {
			MemoryAvailable, Layout{},
			[]subject{
				{name: "within", request: "1000", memory: 900},
				{name: "within, low", priority: -5, request: "1000", memory: 900},
				{name: "beyond, high", priority: 10, request: "100", memory: 5000},
				{name: "beyond", request: "100", memory: 400},
				{name: "beyond, most", memory: 500},
				{name: "not known", unknown: true},
			},
			[]string{"not known", "beyond, most", "beyond", "beyond, high", "within, low", "within"},
		},
		"memory: those within their request by how little is left of it": {
			AllocatableMemory, Layout{},
			[]subject{{name: "a", request: "1000", memory: 100}, {name: "b", request: "1000", memory: 1000}, {name: "c", request: "5000", memory: 2000}},
			[]string{"b", "a", "c"},
		},
		"pids: priority, then processes; requests do not count": {
			PIDAvailable, Layout{},
			[]subject{{name: "few", processes: 3}, {name: "many", processes: 300}, {name: "most, high", priority: 1, processes: 3000}, {name: "not known", unknown: true}},
			[]string{"not known", "many", "few", "most, high"},
		},
		"one file system: all counts but what is in memory": {
			NodeFsAvailable, Layout{},
			[]subject{
				{name: "memory", memoryDisk: 1e9}, {name: "volume", volume: 3000}, {name: "layer", layer: 4000}, {name: "logs", logs: 5000},
				{name: "within", request: "1Mi", volume: 9000}, {name: "all", volume: 2000, layer: 2000, logs: 2000},
			},
			[]string{"all", "logs", "layer", "volume", "memory", "within"},
		},
		"images beside it: the node's has logs and volumes": {
			NodeFsAvailable, Layout{DedicatedImages: true},
			[]subject{{name: "layer", layer: 9000}, {name: "volume", volume: 300}, {name: "logs", logs: 400}},
			[]string{"logs", "volume", "layer"},
		},
		"images beside it: theirs has the layers": {
			ImageFsAvailable, Layout{DedicatedImages: true},
			[]subject{{name: "volume", volume: 9000}, {name: "layer", layer: 300}},
			[]string{"layer", "volume"},
		},
		"only images beside it: they are no pod's": {
			ImageFsAvailable, Layout{DedicatedImages: true, SplitContainers: true},
			[]subject{{name: "a", layer: 1}, {name: "b", layer: 9000, priority: -1}},
			[]string{"b", "a"},
		},
		"only images beside it: layers are the node's": {
			ContainerFsAvailable, Layout{DedicatedImages: true, SplitContainers: true},
			[]subject{{name: "volume", volume: 100}, {name: "layer", layer: 900}},
			[]string{"layer", "volume"},
		},
		"inodes: counted against requested bytes, the kubelet's way": {
			NodeFsInodesFree, Layout{},
			[]subject{{name: "none", request: "10"}, {name: "many", volume: 9000, request: "8"}, {name: "few", volume: 2000, request: "0"}},
			[]string{"few", "many", "none"},
		},
	} {
		if got := ranked(tc.signal, tc.layout, tc.subjects...); fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// A Pod that says what it asks for as a whole is held to that, and overhead counts only with a request.
func TestRequest(t *testing.T) {
	p := subject{request: "100"}.pod()
	p.Spec.Overhead = v1.ResourceList{v1.ResourceMemory: resource.MustParse("7"), v1.ResourceCPU: resource.MustParse("1")}
	if got := request(p, v1.ResourceMemory); got != 107 {
		t.Errorf("with overhead: %d", got)
	}
	p.Spec.Resources = &v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceMemory: resource.MustParse("500")}}
	if got := request(p, v1.ResourceMemory); got != 507 {
		t.Errorf("as a whole: %d", got)
	}
	p.Spec.Resources, p.Spec.Containers[0].Resources.Requests = nil, nil
	if got := request(p, v1.ResourceMemory); got != 0 {
		t.Errorf("nothing asked for: %d", got)
	}
}
