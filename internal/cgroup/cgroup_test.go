package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"k8s.io/utils/ptr"
)

// testManager works below a parent of its own, which must be gone at the end.
func testManager(t *testing.T) *Manager {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	m, err := New(fmt.Sprintf("/podium-test-%d-%s", os.Getpid(), t.Name()))
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := m.Kill(context.Background(), "/"); err != nil {
			t.Error(err)
		}
		if err := m.Remove("/"); err != nil {
			t.Error(err)
		}
		for c, d := range m.Dirs("/") {
			if _, err := os.Stat(d); err == nil {
				t.Errorf("%s (%s) is left", d, c)
			}
		}
	})
	return m
}

func TestEnsureSetRemove(t *testing.T) {
	m := testManager(t)
	const pod = "kubepods/burstable/podX"
	if m.Exists(pod) {
		t.Fatal("exists before it was made")
	}
	res := Resources{CPUShares: ptr.To[uint64](256), CPUQuota: ptr.To[int64](50000), CPUPeriod: ptr.To[uint64](100000), Memory: ptr.To[int64](64 << 20), PidsLimit: ptr.To[int64](100)}
	for range 2 { // idempotent
		if err := m.Ensure(pod, res); err != nil {
			t.Fatal(err)
		}
	}
	if !m.Exists(pod) {
		t.Fatal("does not exist after Ensure")
	}
	s, err := m.Stats(pod)
	if err != nil {
		t.Fatal(err)
	}
	if s.Memory.Limit != 64<<20 || s.ProcessLimit != 100 {
		t.Errorf("limits = %d bytes, %d processes", s.Memory.Limit, s.ProcessLimit)
	}
	if err := m.Set(pod, Resources{Memory: ptr.To[int64](-1)}); err != nil {
		t.Fatal(err)
	}
	if s, _ = m.Stats(pod); s.Memory.Limit != 0 || s.ProcessLimit != 100 {
		t.Errorf("after lifting the memory limit: %d bytes, %d processes", s.Memory.Limit, s.ProcessLimit)
	}
	if names, err := m.Children("kubepods/burstable"); err != nil || len(names) != 1 || names[0] != "podX" {
		t.Errorf("children = %v, %v", names, err)
	}
	for range 2 {
		if err := m.Remove("kubepods"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Stats(pod); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stats of a removed cgroup: %v", err)
	}
}

func TestKill(t *testing.T) {
	m := testManager(t)
	if err := m.Ensure("a/b", Resources{}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for c, d := range m.Dirs("a/b") {
		if c == "devices" {
			continue
		}
		if err := cgroups.WriteCgroupProc(d, cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	if pids, err := m.Procs("a"); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Fatalf("procs = %v, %v", pids, err)
	}
	if err := m.Remove("a"); !errors.Is(err, ErrBusy) {
		t.Errorf("removing a cgroup with a process: %v", err)
	}
	if err := m.Kill(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the process was not killed")
	}
	if err := m.Remove("a"); err != nil {
		t.Error(err)
	}
}

func TestRootIsSafe(t *testing.T) {
	m, err := New("/")
	if err != nil {
		t.Skip(err)
	}
	for _, p := range []string{"", "/", ".", "a/.."} {
		if err := m.Kill(t.Context(), p); !errors.Is(err, ErrRoot) {
			t.Fatalf("kill %q: %v", p, err)
		}
		if err := m.Remove(p); !errors.Is(err, ErrRoot) {
			t.Fatalf("remove %q: %v", p, err)
		}
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 39, 262144: 10000, 1 << 30: 10000} {
		if got := Weight(shares); got != want {
			t.Errorf("Weight(%d) = %d, want %d", shares, got, want)
		}
	}
}

func TestTranslate(t *testing.T) {
	pod := Resources{CPUShares: ptr.To[uint64](1024)}
	container := Resources{CPUShares: ptr.To[uint64](1024), CPUWeight: ptr.To(ContainerWeight(1024)), Unified: map[string]string{"memory.oom.group": "1"}}
	v1, v2 := &Manager{mode: V1}, &Manager{mode: V2}
	if r := v2.translate(pod); r.CpuWeight != 39 || r.CpuShares != 0 {
		t.Errorf("a Pod on v2: %+v", r)
	}
	if r := v2.translate(container); r.CpuWeight != 100 || r.CpuShares != 0 || r.Unified["memory.oom.group"] != "1" {
		t.Errorf("a container on v2: %+v", r)
	}
	if r := v1.translate(container); r.CpuShares != 1024 || r.CpuWeight != 0 || r.Unified != nil {
		t.Errorf("a container on v1: %+v", r)
	}
}

func TestRate(t *testing.T) {
	m := &Manager{cpu: map[string]sample{}}
	t0 := time.Unix(1000, 0)
	if r := m.rate("k", t0, 0); r != nil {
		t.Errorf("first sample has a rate of %d", *r)
	}
	if r := m.rate("k", t0.Add(2*time.Second), 1e9); r == nil || *r != 5e8 {
		t.Errorf("rate = %v", r)
	}
	if r := m.rate("k", t0.Add(2*time.Second+time.Millisecond), 3e9); r == nil || *r != 5e8 {
		t.Errorf("rate of a sample too soon = %v", r)
	}
	if r := m.rate("k", t0.Add(4*time.Second), 2e9); r == nil || *r != 5e8 {
		t.Errorf("rate = %v", r)
	}
}

func TestMemoryAvailable(t *testing.T) {
	if a := (MemoryStats{WorkingSet: 5}).Available(); a != nil {
		t.Errorf("available without a limit = %d", *a)
	}
	if a := (MemoryStats{Limit: 10, WorkingSet: 12}).Available(); *a != 0 {
		t.Errorf("available above the limit = %d", *a)
	}
}
