package container

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/qos"
	"podium.dev/podium/internal/paths"
)

// fakeTree keeps cgroups in a map; those named busy have processes.
type fakeTree struct {
	groups map[string]cgroup.Resources
	busy   map[string]bool
}

func (f *fakeTree) Path(p string) string { return "/parent/" + p }

func (f *fakeTree) Ensure(p string, res cgroup.Resources) error {
	f.groups[p] = res
	return nil
}

func (f *fakeTree) Remove(p string) error {
	if f.busy[p] {
		return cgroup.ErrBusy
	}
	delete(f.groups, p)
	return nil
}

func (f *fakeTree) Kill(_ context.Context, p string) error {
	delete(f.busy, p)
	return nil
}

func (f *fakeTree) Children(p string) (names []string, err error) {
	for name := range f.groups {
		if filepath.Dir(name) == p {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

func TestCgroups(t *testing.T) {
	tree := &fakeTree{groups: map[string]cgroup.Resources{}, busy: map[string]bool{}}
	c := newCgroups(tree, qos.Settings{EnforceCPU: true, Period: qos.DefaultPeriod, PodPids: 64}, []string{"2MB", "1GB"})
	pod := func(uid types.UID, requests, limits v1.ResourceList) *v1.Pod {
		p := newPod()
		p.UID = uid
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: requests, Limits: limits}
		return p
	}
	cpu := func(q string) v1.ResourceList { return v1.ResourceList{"cpu": resource.MustParse(q)} }
	full := v1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")}
	for _, tc := range []struct {
		pod  *v1.Pod
		want string
	}{
		{pod("g", full, full), "kubepods/podg"},
		{pod("b", cpu("500m"), nil), "kubepods/burstable/podb"},
		{pod("b2", cpu("250m"), nil), "kubepods/burstable/podb2"},
		{pod("e", nil, nil), "kubepods/besteffort/pode"},
	} {
		for range 2 {
			if got, err := c.Ensure(tc.pod); err != nil || got != "/parent/"+tc.want {
				t.Errorf("%s, %v", got, err)
			}
		}
	}
	if got := *tree.groups["kubepods/burstable"].CPUShares; got != 768 {
		t.Errorf("the level of burstable Pods weighs %d", got)
	}
	if got := *tree.groups["kubepods/besteffort"].CPUShares; got != 2 {
		t.Errorf("the level of best effort Pods weighs %d", got)
	}
	g := tree.groups["kubepods/podg"]
	if *g.CPUShares != 1024 || *g.CPUQuota != 100000 || *g.CPUPeriod != 100000 || *g.Memory != 1<<30 || *g.PidsLimit != 64 ||
		!maps.Equal(g.HugePages, map[string]uint64{"2MB": 0, "1GB": 0}) {
		t.Errorf("guaranteed: %+v", g)
	}
	tree.busy["kubepods/burstable/podb"] = true
	for _, uid := range []types.UID{"b", "g", "e", "none"} {
		if err := c.Remove(uid); err != nil {
			t.Errorf("%s: %v", uid, err)
		}
	}
	left := slices.Sorted(maps.Keys(tree.groups))
	if !slices.Equal(left, []string{"kubepods/besteffort", "kubepods/burstable", "kubepods/burstable/podb2"}) {
		t.Errorf("left: %v", left)
	}
	if got := *tree.groups["kubepods/burstable"].CPUShares; got != 256 {
		t.Errorf("the level of burstable Pods weighs %d", got)
	}
	if err := c.Restore([]*v1.Pod{pod("b3", cpu("1"), nil), pod("e2", nil, nil)}); err != nil {
		t.Fatal(err)
	}
	if got := *tree.groups["kubepods/burstable"].CPUShares; got != 1280 {
		t.Errorf("restored, the level of burstable Pods weighs %d", got)
	}
}

func TestCgroupsOfTheKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	parent := fmt.Sprintf("/podium-test-%d", os.Getpid())
	tree, err := cgroup.New(parent)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := tree.Remove("/"); err != nil {
			t.Errorf("cgroups are left: %v", err)
		}
	})
	c := NewPodCgroups(tree, paths.Paths{}, &kubeletconfig.KubeletConfiguration{PodPidsLimit: ptr[int64](99)})
	pod := newPod()
	pod.Spec.Containers[0].Resources.Limits = v1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("64Mi")}
	pod.Spec.Containers[0].Resources.Requests = v1.ResourceList{"cpu": resource.MustParse("250m")}
	for range 2 {
		if got, err := c.Ensure(pod); err != nil || got != parent+"/kubepods/burstable/poduid" {
			t.Fatalf("%s, %v", got, err)
		}
	}
	memory := map[cgroup.Mode]string{cgroup.V1: "memory.limit_in_bytes", cgroup.V2: "memory.max"}[tree.Mode()]
	raw, err := os.ReadFile(filepath.Join(tree.Dir("kubepods/burstable/poduid", "memory"), memory))
	if got := strings.TrimSpace(string(raw)); err != nil || got != "67108864" {
		t.Errorf("memory limit %s, %v", got, err)
	}
	// What is left in it is ended.
	left := exec.Command("sleep", "1000")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- left.Wait() }()
	procs := filepath.Join(tree.Dir("kubepods/burstable/poduid", "memory"), "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(left.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Remove(pod.UID); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err == nil {
		t.Error("the process ended by itself")
	}
	if tree.Exists("kubepods/burstable/poduid") {
		t.Error("the cgroup is left")
	}
}
