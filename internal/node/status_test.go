package node

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/node/machine"
)

func observed(change func(*observation)) observation {
	o := observation{
		Name: "n", MaxPods: 110, Port: 10250, Now: metav1.NewTime(time.Unix(1000, 0)),
		Addresses: addresses([]net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")}, "host"),
		Facts: machine.Facts{Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
		}},
		Runtime: &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
			{Type: runtimeapi.RuntimeReady, Status: true}, {Type: runtimeapi.NetworkReady, Status: true},
		}}},
	}
	if change != nil {
		change(&o)
	}
	return o
}

func condition(s corev1.NodeStatus, t corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range s.Conditions {
		if c.Type == t {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func TestReadyCondition(t *testing.T) {
	for name, tc := range map[string]struct {
		change  func(*observation)
		status  corev1.ConditionStatus
		message string
	}{
		"ready":           {nil, corev1.ConditionTrue, "kubelet is posting ready status"},
		"runtime is down": {func(o *observation) { o.RuntimeErr = errors.New("no socket") }, corev1.ConditionFalse, "container runtime is down: no socket"},
		"no network": {func(o *observation) {
			c := o.Runtime.Status.Conditions[1]
			c.Status, c.Reason, c.Message = false, "NetworkPluginNotReady", "no CNI"
		}, corev1.ConditionFalse, "container runtime not ready: NetworkReady=false reason:NetworkPluginNotReady message:no CNI"},
	} {
		c := condition(status(corev1.NodeStatus{}, observed(tc.change)), corev1.NodeReady)
		if c.Status != tc.status || c.Message != tc.message {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestTransitionTimeMovesWithTheStatusOnly(t *testing.T) {
	first := status(corev1.NodeStatus{}, observed(nil))
	later := observed(nil)
	later.Now = metav1.NewTime(time.Unix(2000, 0))
	second := status(first, later)
	if c := condition(second, corev1.NodeReady); !c.LastTransitionTime.Equal(&metav1.Time{Time: time.Unix(1000, 0)}) || !c.LastHeartbeatTime.Equal(&later.Now) {
		t.Errorf("unchanged: %+v", c)
	}
	if !sameButHeartbeat(first, second) {
		t.Error("a heartbeat counts as a change")
	}
	later.Pressure.Memory = true
	third := status(second, later)
	if c := condition(third, corev1.NodeMemoryPressure); c.Status != corev1.ConditionTrue || !c.LastTransitionTime.Equal(&later.Now) {
		t.Errorf("changed: %+v", c)
	}
	if sameButHeartbeat(second, third) {
		t.Error("pressure does not count as a change")
	}
}

func TestAllocatable(t *testing.T) {
	k := &kubeletconfig.KubeletConfiguration{
		KubeReserved: map[string]string{"cpu": "500m"}, SystemReserved: map[string]string{"cpu": "500m", "memory": "1Gi"},
		EvictionHard: map[string]string{"memory.available": "100Mi", "nodefs.available": "10%"},
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"), "hugepages-2Mi": resource.MustParse("1Gi"),
	}
	got := allocatable(capacity, reserved(k, capacity))
	for name, want := range map[corev1.ResourceName]string{"cpu": "3", "memory": "6044Mi", "ephemeral-storage": "96636764000", "hugepages-2Mi": "1Gi"} {
		if q := got[name]; q.Cmp(resource.MustParse(want)) != 0 {
			t.Errorf("%s: got %s, want %s", name, q.String(), want)
		}
	}
}

func TestCapacityKeepsWhatOthersAdvertise(t *testing.T) {
	old := corev1.NodeStatus{Capacity: corev1.ResourceList{"example.com/gpu": resource.MustParse("2"), "hugepages-1Gi": resource.MustParse("1Gi")}}
	got := status(old, observed(nil)).Capacity
	if q, ok := got["example.com/gpu"]; !ok || q.Value() != 2 {
		t.Errorf("the extended resource is gone: %v", got)
	}
	if _, ok := got["hugepages-1Gi"]; ok {
		t.Error("pages that the machine has no more are kept")
	}
}

func TestImagesAreTheLargest(t *testing.T) {
	var all []*runtimeapi.Image
	for i := range 60 {
		all = append(all, &runtimeapi.Image{Id: string(rune('a' + i)), Size: uint64(i)})
	}
	if got := images(all, 50); len(got) != 50 || got[0].SizeBytes != 59 {
		t.Errorf("%d images, the first of %d bytes", len(got), got[0].SizeBytes)
	}
	if got := images(all, -1); len(got) != 60 {
		t.Errorf("without a bound %d images", len(got))
	}
}

// Two addresses of one type survive a strategic merge patch only when the list is replaced.
func TestStatusPatchReplacesAddresses(t *testing.T) {
	patch, err := statusPatch(status(corev1.NodeStatus{}, observed(nil)))
	if err != nil || !strings.Contains(string(patch), `{"$patch":"replace"}`) {
		t.Errorf("%s, %v", patch, err)
	}
}

func TestChangesAreToldOnce(t *testing.T) {
	first := status(corev1.NodeStatus{}, observed(nil))
	if got := strings.Join(changes(corev1.NodeStatus{}, first), " "); got != "NodeHasSufficientMemory NodeHasNoDiskPressure NodeHasSufficientPID NodeReady" {
		t.Errorf("at first: %s", got)
	}
	second := status(first, observed(func(o *observation) { o.Pressure.Disk = true }))
	if got := strings.Join(changes(first, second), " "); got != "NodeHasDiskPressure" {
		t.Errorf("pressure: %s", got)
	}
	if got := changes(second, second); got != nil {
		t.Errorf("unchanged: %v", got)
	}
}

func TestMaxPods(t *testing.T) {
	four := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
	for _, tc := range []struct{ maxPods, perCore, want int32 }{{110, 0, 110}, {110, 10, 40}, {30, 10, 30}} {
		if got := maxPods(&kubeletconfig.KubeletConfiguration{MaxPods: tc.maxPods, PodsPerCore: tc.perCore}, four); got != tc.want {
			t.Errorf("maxPods %d, podsPerCore %d: %d, want %d", tc.maxPods, tc.perCore, got, tc.want)
		}
	}
}

// Events of the Node itself: a reboot since the last status, and being cordoned and uncordoned.
func TestEventsOfTheNode(t *testing.T) {
	events := record.NewFakeRecorder(10)
	n := &Node{c: Config{Name: "n"}, recorder: events}
	booted := func(id string) corev1.NodeStatus {
		return corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: id}}
	}
	cordoned := func(yes bool) *corev1.Node { return &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: yes}} }
	for _, tc := range []struct {
		tell func()
		want string
	}{
		{func() { n.tellReboot(booted(""), booted("a")) }, ""},
		{func() { n.tellReboot(booted("a"), booted("a")) }, ""},
		{func() { n.tellReboot(booted("a"), booted("b")) }, "Warning Rebooted Node n has been rebooted, boot id: b"},
		{func() { n.tellSchedulable(nil, cordoned(false)) }, ""},
		{func() { n.tellSchedulable(nil, cordoned(true)) }, "Normal NodeNotSchedulable Node n status is now: NodeNotSchedulable"},
		{func() { n.tellSchedulable(cordoned(true), cordoned(true)) }, ""},
		{func() { n.tellSchedulable(cordoned(true), cordoned(false)) }, "Normal NodeSchedulable Node n status is now: NodeSchedulable"},
	} {
		tc.tell()
		got := ""
		select {
		case got = <-events.Events:
		default:
		}
		if got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func TestNotReadyWhileShuttingDown(t *testing.T) {
	c := ready(observation{Down: true})
	if c.Status != corev1.ConditionFalse || c.Reason != "KubeletNotReady" || c.Message != "node is shutting down" {
		t.Errorf("condition = %+v", c)
	}
}
