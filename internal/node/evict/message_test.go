package evict

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

func TestExplain(t *testing.T) {
	due := []Threshold{{Signal: MemoryAvailable, Value: Value{Quantity: ptr("100Mi")}}, {Signal: NodeFsAvailable, Value: Value{Share: 0.5}}}
	seen := Observations{
		MemoryAvailable: {Available: resource.MustParse("99Mi"), Capacity: resource.MustParse("1Gi")},
		NodeFsAvailable: {Available: resource.MustParse("1Gi"), Capacity: resource.MustParse("4Gi")},
	}
	whole := func(p *v1.Pod) {
		p.Spec.Resources = &v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Mi")}}
	}
	for name, tc := range map[string]struct {
		short   v1.ResourceName
		subject subject
		change  func(*v1.Pod)
		want    string
		notes   map[string]string
	}{
		"beyond no request": {
			v1.ResourceMemory, subject{name: "p", memory: 5 << 20}, nil,
			"The node was low on resource: memory. Threshold quantity: 100Mi, available: 99Mi. Container c was using 5Mi, request is 0, has larger consumption of memory. ",
			map[string]string{"offending_containers": "c", "offending_containers_usage": "5Mi", "starved_resource": "memory"},
		},
		"within the request": {
			v1.ResourceMemory, subject{name: "p", memory: 5 << 20, request: "6Mi"}, nil,
			"The node was low on resource: memory. Threshold quantity: 100Mi, available: 99Mi. ",
			map[string]string{"offending_containers": "", "offending_containers_usage": "", "starved_resource": "memory"},
		},
		"as a whole": {
			v1.ResourceMemory, subject{name: "p", memory: 5 << 20, request: "6Mi"}, whole,
			"The node was low on resource: memory. Threshold quantity: 100Mi, available: 99Mi. Pod p was using 5Mi, request is 1Mi, has larger consumption of memory. ",
			map[string]string{
				"offending_pod": "p", "offending_pod_usage": "5Mi",
				"offending_containers": "", "offending_containers_usage": "", "starved_resource": "memory",
			},
		},
		"on disk": {
			v1.ResourceEphemeralStorage, subject{name: "p", layer: 1 << 20, logs: 2 << 20, volume: 9 << 20, request: "1Mi"}, nil,
			"The node was low on resource: ephemeral-storage. Threshold quantity: 2Gi, available: 1Gi. Container c was using 3Mi, request is 1Mi, has larger consumption of ephemeral-storage. ",
			map[string]string{"offending_containers": "c", "offending_containers_usage": "3Mi", "starved_resource": "ephemeral-storage"},
		},
		"inodes are no container's": {
			resourceInodes, subject{name: "p", layer: 1 << 20}, nil, "The node was low on resource: inodes. ",
			map[string]string{"offending_containers": "", "offending_containers_usage": "", "starved_resource": "inodes"},
		},
		"nothing known": {
			v1.ResourceMemory, subject{name: "p", unknown: true}, nil,
			"The node was low on resource: memory. Threshold quantity: 100Mi, available: 99Mi. ", map[string]string{},
		},
	} {
		p := tc.subject.pod()
		if tc.change != nil {
			tc.change(p)
		}
		got, notes := explain(tc.short, p, func(*v1.Pod) (stats.PodStats, bool) { return tc.subject.use(), !tc.subject.unknown }, due, seen)
		if got != tc.want {
			t.Errorf("%s:\n got %q\nwant %q", name, got, tc.want)
		}
		if len(notes) != len(tc.notes) {
			t.Errorf("%s: notes %v, want %v", name, notes, tc.notes)
		}
		for k, v := range tc.notes {
			if notes[k] != v {
				t.Errorf("%s: %s is %q, want %q", name, k, notes[k], v)
			}
		}
	}
}

func TestExceeds(t *testing.T) {
	limited := func(limit string) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse(limit)}
		}
	}
	sized := func(i int, limit string) func(*v1.Pod) {
		return func(p *v1.Pod) { p.Spec.Volumes[i].EmptyDir.SizeLimit = ptr(limit) }
	}
	for name, tc := range map[string]struct {
		subject subject
		change  func(*v1.Pod)
		layout  Layout
		want    string
	}{
		"no limit":            {subject{volume: 1e9}, func(*v1.Pod) {}, Layout{}, ""},
		"volume within":       {subject{volume: 1 << 20}, sized(0, "1Mi"), Layout{}, ""},
		"volume":              {subject{volume: 1<<20 + 1}, sized(0, "1Mi"), Layout{}, `Usage of EmptyDir volume "disk" exceeds the limit "1Mi". `},
		"volume in memory":    {subject{memoryDisk: 1<<20 + 1}, sized(1, "1Mi"), Layout{}, `Usage of EmptyDir volume "memory" exceeds the limit "1Mi". `},
		"a limit of nothing":  {subject{volume: 1e9}, sized(0, "0"), Layout{}, ""},
		"pod":                 {subject{volume: 3 << 20}, limited("2Mi"), Layout{}, "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "},
		"layer and logs":      {subject{layer: 1 << 20, logs: 1<<20 + 1}, limited("2Mi"), Layout{}, `Container c exceeded its local ephemeral storage limit "2Mi". `},
		"layer on its own fs": {subject{layer: 3 << 20, logs: 1 << 20}, limited("2Mi"), Layout{DedicatedImages: true}, ""},
		"logs":                {subject{logs: 3 << 20}, limited("2Mi"), Layout{DedicatedImages: true}, `Container c exceeded its local ephemeral storage limit "2Mi". `},
	} {
		p := tc.subject.pod()
		tc.change(p)
		use := tc.subject.use()
		if name == "pod" {
			all := onDisk(3 << 20)
			use.EphemeralStorage = &all
		}
		if got := Exceeds(p, &use, tc.layout); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		if want := name != "no limit" && name != "a limit of nothing"; Limited(p) != want {
			t.Errorf("%s: limited is %v", name, !want)
		}
	}
}

// An init container that is no sidecar has no limit of its own, and ephemeral containers have none at all.
func TestWhichContainersAreLimited(t *testing.T) {
	always := v1.ContainerRestartPolicyAlways
	limits := v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse("1")}}
	p := &v1.Pod{Spec: v1.PodSpec{
		InitContainers: []v1.Container{{Name: "init", Resources: limits}, {Name: "sidecar", RestartPolicy: &always, Resources: limits}},
		Containers:     []v1.Container{{Name: "app", Resources: limits}, {Name: "free"}},
	}}
	for name, want := range map[string]bool{"init": false, "sidecar": true, "app": true, "free": false, "debugger": false} {
		if got := containerLimit(p, name) != nil; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAdmit(t *testing.T) {
	const refused = "The node had condition: [MemoryPressure]. "
	memory, disk := []v1.NodeConditionType{v1.NodeMemoryPressure}, []v1.NodeConditionType{v1.NodeDiskPressure, v1.NodeMemoryPressure}
	critical, static := int32(2_000_000_000), map[string]string{"kubernetes.io/config.source": "file"}
	tolerant := []v1.Toleration{{Key: v1.TaintNodeMemoryPressure, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule}}
	for name, tc := range map[string]struct {
		conditions []v1.NodeConditionType
		change     func(*v1.Pod)
		want       string
	}{
		"no pressure":             {nil, func(*v1.Pod) {}, ""},
		"best effort":             {memory, func(*v1.Pod) {}, refused},
		"best effort, tolerant":   {memory, func(p *v1.Pod) { p.Spec.Tolerations = tolerant }, ""},
		"burstable":               {memory, func(p *v1.Pod) { *p = *subject{request: "1Mi"}.pod() }, ""},
		"critical":                {disk, func(p *v1.Pod) { p.Spec.Priority = &critical }, ""},
		"static":                  {disk, func(p *v1.Pod) { p.Annotations = static }, ""},
		"burstable, disk, too":    {disk, func(p *v1.Pod) { *p = *subject{request: "1Mi"}.pod() }, "The node had condition: [DiskPressure MemoryPressure]. "},
		"tolerant, but disk, too": {disk, func(p *v1.Pod) { p.Spec.Tolerations = tolerant }, "The node had condition: [DiskPressure MemoryPressure]. "},
	} {
		p := subject{}.pod()
		tc.change(p)
		v := Admit(p, tc.conditions)
		switch {
		case (v == nil) != (tc.want == ""):
			t.Errorf("%s: %+v", name, v)
		case v != nil && (v.Reason != "Evicted" || v.Message != tc.want):
			t.Errorf("%s: %q %q", name, v.Reason, v.Message)
		}
	}
}
