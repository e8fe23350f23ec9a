package container

import (
	"maps"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/qos"
)

func TestLevelsProtectMemory(t *testing.T) {
	tree := &fakeTree{groups: map[string]cgroup.Resources{}}
	c := newCgroups(tree, qos.Settings{Unified: true, ReserveMemory: true, Period: qos.DefaultPeriod}, nil)
	pod := func(uid types.UID, memory, limit string) *v1.Pod {
		p := newPod()
		p.UID = uid
		r := &p.Spec.Containers[0].Resources
		r.Requests = v1.ResourceList{"memory": resource.MustParse(memory), "cpu": resource.MustParse("100m")}
		if limit != "" {
			r.Limits = v1.ResourceList{"memory": resource.MustParse(limit), "cpu": resource.MustParse("100m")}
		}
		return p
	}
	for _, p := range []*v1.Pod{pod("g", "3Ki", "3Ki"), pod("b", "5Ki", ""), pod("c", "7Ki", "")} {
		if _, err := c.Ensure(p); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(group string, want map[string]string) {
		t.Helper()
		if got := tree.groups[group].Unified; !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", group, got, want)
		}
	}
	expect("kubepods", map[string]string{"memory.min": "15360", "memory.low": "12288"})
	expect("kubepods/burstable", map[string]string{"memory.low": "12288"})
	expect("kubepods/podg", map[string]string{"memory.min": "3072"})
	expect("kubepods/burstable/podb", map[string]string{"memory.low": "5120"})
	if err := c.Remove("b"); err != nil {
		t.Fatal(err)
	}
	expect("kubepods", map[string]string{"memory.min": "10240", "memory.low": "7168"})

	// Without it, what an earlier run left is taken back, once.
	c = newCgroups(tree, qos.Settings{Unified: true, Period: qos.DefaultPeriod}, nil)
	if _, err := c.Ensure(pod("b", "5Ki", "")); err != nil {
		t.Fatal(err)
	}
	expect("kubepods", map[string]string{"memory.min": "0", "memory.low": "0"})
	expect("kubepods/burstable", map[string]string{"memory.low": "0"})
}

func TestEnforce(t *testing.T) {
	tree := &fakeTree{groups: map[string]cgroup.Resources{}}
	c := newCgroups(tree, qos.Settings{Period: qos.DefaultPeriod}, nil)
	capacity := v1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi")}
	if err := c.Enforce(capacity, v1.ResourceList{"memory": resource.MustParse("256Mi")}); err != nil {
		t.Fatal(err)
	}
	if got := tree.groups["kubepods"].Memory; got == nil || *got != 768<<20 {
		t.Errorf("memory = %v", got)
	}
}
