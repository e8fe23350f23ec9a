package evict

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

func settings(hard, soft, grace, least map[string]string, enforce ...string) *kubeletconfig.KubeletConfiguration {
	return &kubeletconfig.KubeletConfiguration{
		EvictionHard: hard, EvictionSoft: soft, EvictionSoftGracePeriod: grace, EvictionMinimumReclaim: least, EnforceNodeAllocatable: enforce,
	}
}

// names writes thresholds in a line each.
func names(list []Threshold) (out []string) {
	for _, t := range list {
		text := string(t.Signal) + "<"
		if t.Value.Quantity != nil {
			text += t.Value.Quantity.String()
		} else {
			text += resource.NewQuantity(int64(t.Value.Share*1000), resource.DecimalSI).String() + "‰"
		}
		if t.Grace > 0 {
			text += " for " + t.Grace.String()
		}
		if t.MinReclaim != nil && t.MinReclaim.Quantity != nil {
			text += " and " + t.MinReclaim.Quantity.String()
		}
		out = append(out, text)
	}
	return out
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: got %v, want %v", what, got, want)
			return
		}
	}
}

func TestThresholds(t *testing.T) {
	for name, tc := range map[string]struct {
		settings *kubeletconfig.KubeletConfiguration
		want     []string
	}{
		"none": {settings(nil, nil, nil, nil, "pods"), nil},
		"the defaults": {
			settings(map[string]string{
				"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%", "imagefs.inodesFree": "5%",
			}, nil, nil, nil, "pods"),
			[]string{
				"memory.available<100Mi", "allocatableMemory.available<100Mi", "nodefs.available<100‰", "nodefs.inodesFree<50‰",
				"imagefs.available<150‰", "imagefs.inodesFree<50‰",
			},
		},
		"nothing enforced for pods": {
			settings(map[string]string{"memory.available": "100Mi"}, nil, nil, nil, "none"), []string{"memory.available<100Mi"},
		},
		"hard before soft, and only hard for all pods": {
			settings(map[string]string{"memory.available": "100Mi"}, map[string]string{"memory.available": "30%"},
				map[string]string{"memory.available": "90s"}, map[string]string{"memory.available": "1Gi"}, "pods"),
			[]string{"memory.available<100Mi and 1Gi", "memory.available<300‰ for 1m30s and 1Gi", "allocatableMemory.available<100Mi and 1Gi"},
		},
		"0% and 100% are none": {
			settings(map[string]string{"memory.available": "0%", "nodefs.available": "100%", "pid.available": "10"}, nil, nil, nil, "pods"),
			[]string{"pid.available<10"},
		},
	} {
		got, err := Thresholds(tc.settings)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		same(t, name, names(got), tc.want)
	}
	for name, bad := range map[string]*kubeletconfig.KubeletConfiguration{
		"unknown signal":  settings(map[string]string{"cpu.available": "1"}, nil, nil, nil),
		"no quantity":     settings(map[string]string{"memory.available": "much"}, nil, nil, nil),
		"no percentage":   settings(map[string]string{"memory.available": "x%"}, nil, nil, nil),
		"no grace period": settings(nil, map[string]string{"memory.available": "1Gi"}, nil, nil),
		"bad reclaim":     settings(map[string]string{"memory.available": "1Gi"}, nil, nil, map[string]string{"memory.available": "?"}),
	} {
		if _, err := Thresholds(bad); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// The signals of containers' layers follow the file system that the layers are on, whatever is set for them.
func TestThresholdsFollowTheLayout(t *testing.T) {
	list, err := Thresholds(settings(map[string]string{"nodefs.available": "10%", "imagefs.available": "15%", "containerfs.available": "90%"},
		map[string]string{"imagefs.inodesFree": "7%"}, map[string]string{"imagefs.inodesFree": "1m"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		layout Layout
		want   []string
	}{
		"one file system": {Layout{}, []string{
			"nodefs.available<100‰", "imagefs.available<150‰", "imagefs.inodesFree<70‰ for 1m0s", "containerfs.available<100‰",
		}},
		"images and layers beside it": {Layout{DedicatedImages: true}, []string{
			"nodefs.available<100‰", "imagefs.available<150‰", "imagefs.inodesFree<70‰ for 1m0s", "containerfs.available<150‰", "containerfs.inodesFree<70‰ for 1m0s",
		}},
		"only images beside it": {Layout{DedicatedImages: true, SplitContainers: true}, []string{
			"nodefs.available<100‰", "imagefs.available<150‰", "imagefs.inodesFree<70‰ for 1m0s", "containerfs.available<100‰",
		}},
	} {
		same(t, name, names(For(tc.layout, list)), tc.want)
	}
}

func TestShareOfCapacity(t *testing.T) {
	v, err := ParseValue("10%")
	if err != nil {
		t.Fatal(err)
	}
	// As precise as the kubelet: ten percent are a little more in single precision.
	if q := v.Of(resource.MustParse("100Gi")); q.Value() != 10737418400 {
		t.Errorf("got %d", q.Value())
	}
}

func TestMet(t *testing.T) {
	least := Value{Quantity: ptr("5")}
	threshold := Threshold{Signal: MemoryAvailable, Value: Value{Quantity: ptr("10")}, MinReclaim: &least}
	for _, tc := range []struct {
		available      string
		met, unrelived bool
	}{{"9", true, true}, {"10", false, true}, {"14", false, true}, {"15", false, false}} {
		seen := Observations{MemoryAvailable: {Available: resource.MustParse(tc.available), Capacity: resource.MustParse("100")}}
		if got := threshold.met(seen, false); got != tc.met {
			t.Errorf("%s available: met is %v", tc.available, got)
		}
		if got := threshold.met(seen, true); got != tc.unrelived {
			t.Errorf("%s available: met with reclaim is %v", tc.available, got)
		}
	}
	if threshold.met(Observations{}, false) {
		t.Error("what is not seen is short")
	}
}

func ptr(q string) *resource.Quantity {
	v := resource.MustParse(q)
	return &v
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
