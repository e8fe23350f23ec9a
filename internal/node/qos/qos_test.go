package qos

import (
	"maps"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// list reads pairs of names and quantities.
func list(pairs ...string) v1.ResourceList {
	l := v1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func container(requests, limits v1.ResourceList) v1.Container {
	return v1.Container{Name: "c", Resources: v1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func pod(containers ...v1.Container) *v1.Pod {
	return &v1.Pod{Spec: v1.PodSpec{Containers: containers}}
}

func TestSharesAndQuota(t *testing.T) {
	for milli, want := range map[int64]int64{0: 2, 1: 2, 2: 2, 100: 102, 1000: 1024, 250000: 256000, 300000: 262144} {
		if got := Shares(milli); got != want {
			t.Errorf("shares of %dm: %d, want %d", milli, got, want)
		}
	}
	for _, tc := range []struct{ milli, period, want int64 }{{0, 100000, 0}, {1, 100000, 1000}, {200, 100000, 20000}, {1500, 100000, 150000}, {500, 10000, 5000}} {
		if got := Quota(tc.milli, tc.period); got != tc.want {
			t.Errorf("quota of %dm: %d, want %d", tc.milli, got, tc.want)
		}
	}
}

func TestOOMScoreAdj(t *testing.T) {
	const capacity = 10 << 30
	full := list("cpu", "1", "memory", "1Gi")
	always := v1.ContainerRestartPolicyAlways
	burst := func(memory string) v1.Container { return container(list("memory", memory), nil) }
	sidecars := pod(burst("2Gi"), burst("5Gi"))
	side := burst("1Gi")
	side.Name, side.RestartPolicy = "side", &always
	sidecars.Spec.InitContainers = []v1.Container{side}
	critical := pod(burst("1Gi"))
	critical.Spec.PriorityClassName, critical.Spec.Priority = "system-node-critical", new(int32)
	*critical.Spec.Priority = 2000001000
	podLevel := pod(burst("1Gi"), burst("1Gi"))
	podLevel.Spec.Resources = &v1.ResourceRequirements{Requests: list("memory", "4Gi")}
	for _, tc := range []struct {
		name string
		pod  *v1.Pod
		c    v1.Container
		want int64
	}{
		{"guaranteed", pod(container(full, full)), container(full, full), -997},
		{"best effort", pod(container(nil, nil)), container(nil, nil), 1000},
		{"a tenth", pod(burst("1Gi")), burst("1Gi"), 900},
		{"nearly nothing", pod(burst("1")), burst("1"), 999},
		{"all", pod(burst("10Gi")), burst("10Gi"), 3},
		{"more than all", pod(burst("20Gi")), burst("20Gi"), 3},
		{"node critical", critical, burst("1Gi"), -997},
		{"sidecar like the least container", sidecars, side, 800},
		{"share of the pod's", podLevel, burst("1Gi"), 800},
	} {
		if got := OOMScoreAdj(tc.pod, &tc.c, capacity); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestForPod(t *testing.T) {
	s := Settings{EnforceCPU: true, Period: DefaultPeriod}
	full := list("cpu", "500m", "memory", "1Gi")
	value := func(p *int64) int64 {
		if p == nil {
			return -99
		}
		return *p
	}
	for _, tc := range []struct {
		name                  string
		pod                   *v1.Pod
		s                     Settings
		shares, quota, memory int64
	}{
		{"guaranteed", pod(container(full, full)), s, 512, 50000, 1 << 30},
		{"without enforcement", pod(container(full, full)), Settings{Period: DefaultPeriod}, 512, -1, 1 << 30},
		{"best effort", pod(container(nil, nil)), s, 2, -99, -99},
		{"request only", pod(container(list("cpu", "1"), nil)), s, 1024, -99, -99},
		{"limits of both", pod(container(list("cpu", "1"), list("cpu", "2", "memory", "1Gi")), container(nil, list("cpu", "1", "memory", "1Gi"))), s, 1024, 300000, 2 << 30},
		{"limit of one only", pod(container(list("cpu", "1"), list("cpu", "2", "memory", "1Gi")), container(nil, list("memory", "1Gi"))), s, 1024, -99, 2 << 30},
	} {
		got := ForPod(tc.pod, tc.s)
		if value(got.Shares) != tc.shares || value(got.Quota) != tc.quota || value(got.Memory) != tc.memory || got.Pids != nil {
			t.Errorf("%s: shares %d, quota %d, memory %d", tc.name, value(got.Shares), value(got.Quota), value(got.Memory))
		}
	}
	s.PodPids = 100
	huge := ForPod(pod(container(list("hugepages-2Mi", "4Mi", "cpu", "1"), list("hugepages-2Mi", "4Mi"))), s)
	if value(huge.Pids) != 100 || !maps.Equal(huge.HugePages, map[int64]int64{2 << 20: 4 << 20}) {
		t.Errorf("pids %d, huge pages %v", value(huge.Pids), huge.HugePages)
	}
}

func TestProtections(t *testing.T) {
	full := list("cpu", "1", "memory", "1Gi")
	half := container(list("memory", "512Mi"), list("memory", "1Gi"))
	factor := 0.5
	tiered := Settings{Unified: true, ReserveMemory: true, Throttle: &factor}
	for _, tc := range []struct {
		name string
		c    v1.Container
		s    Settings
		want map[string]string
	}{
		{"v1", half, Settings{}, nil},
		{"off", half, Settings{Unified: true}, map[string]string{"memory.min": "0", "memory.low": "0"}},
		{"guaranteed", container(full, full), tiered, map[string]string{"memory.min": "1073741824"}},
		{"burstable", half, tiered, map[string]string{"memory.low": "536870912", "memory.high": "805306368"}},
		{"best effort", container(nil, nil), tiered, map[string]string{"memory.min": "0", "memory.low": "0", "memory.high": "2147483648"}},
	} {
		p := pod(tc.c)
		if got := ForContainer(p, &tc.c, 4<<30, tc.s); !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	if got := ForPod(pod(half), tiered).Unified; !maps.Equal(got, map[string]string{"memory.low": "536870912"}) {
		t.Errorf("pod: %v", got)
	}
}

func TestPageSizeName(t *testing.T) {
	for size, want := range map[int64]string{64 << 10: "64KB", 2 << 20: "2MB", 1 << 30: "1GB"} {
		if got := PageSizeName(size); got != want {
			t.Errorf("%d: %s", size, got)
		}
	}
}

func TestForNode(t *testing.T) {
	capacity := list("cpu", "3", "memory", "4Gi", "pid", "1000", "hugepages-2Mi", "8Mi", "ephemeral-storage", "9Gi")
	l := ForNode(capacity, list("cpu", "1", "memory", "1536Mi", "pid", "100"))
	if *l.Shares != 2048 || *l.Memory != 2560<<20 || *l.Pids != 900 || len(l.HugePages) != 1 || l.HugePages[2<<20] != 8<<20 || l.Quota != nil {
		t.Errorf("with reservations: %+v", l)
	}
	if l := ForNode(capacity, nil); *l.Shares != 3072 || *l.Memory != 4<<30 || *l.Pids != 1000 {
		t.Errorf("without: %+v", l)
	}
	if l := ForNode(capacity, list("memory", "5Gi")); *l.Memory != 0 {
		t.Errorf("more is reserved than there is: %d", *l.Memory)
	}
}
