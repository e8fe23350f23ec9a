package cri

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/cgroup"
)

// file reads one of a cgroup's files: by its v1 controller and name, or by its v2 name.
func (w *world) file(id, controller, v1, v2 string) string {
	w.t.Helper()
	c, err := w.r.store.container(id)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := cgroup.New("/")
	if err != nil {
		w.t.Fatal(err)
	}
	name := v1
	if m.Mode() == cgroup.V2 {
		name = v2
	}
	data, err := os.ReadFile(filepath.Join(m.Dir(c.Cgroup, controller), name))
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestResources(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("res")
	sb := w.runPod(pod)
	c := w.sh("main", "while :; do :; done")
	c.Linux.Resources = &runtimeapi.LinuxContainerResources{
		CpuShares: 512, CpuQuota: 20000, CpuPeriod: 100000, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 800,
		Unified: map[string]string{"memory.oom.group": "1"},
	}
	id := w.create(sb, pod, c)
	if err := w.api.UpdateContainerResources(t.Context(), id, &runtimeapi.ContainerResources{Linux: &runtimeapi.LinuxContainerResources{CpuShares: 256}}); err != nil {
		t.Fatalf("update before the start: %v", err)
	}
	w.start(id)
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s = %q, want %q", what, got, want)
		}
	}
	v2 := w.r.machine.CgroupV2()
	memory := func() string { return w.file(id, "memory", "memory.limit_in_bytes", "memory.max") }
	check("memory limit", memory(), "67108864")
	if !v2 {
		check("cpu shares", w.file(id, "cpu", "cpu.shares", ""), "256")
		check("cpu quota", w.file(id, "cpu", "cpu.cfs_quota_us", ""), "20000")
	} else {
		check("cpu quota", w.file(id, "cpu", "", "cpu.max"), "20000 100000")
		check("oom group", w.file(id, "memory", "", "memory.oom.group"), "1")
	}
	score, _, err := w.api.ExecSync(t.Context(), id, []string{"cat", "/proc/1/oom_score_adj"}, time.Minute)
	if err != nil || string(score) != "800\n" {
		t.Errorf("oom_score_adj = %q, %v", score, err)
	}
	if err := w.api.UpdateContainerResources(t.Context(), id, &runtimeapi.ContainerResources{Linux: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 128 << 20}}); err != nil {
		t.Fatal(err)
	}
	check("memory limit", memory(), "134217728")
	if l := w.status(id).GetResources().GetLinux(); l.GetMemoryLimitInBytes() != 128<<20 || l.GetCpuShares() != 256 || l.GetCpuQuota() != 20000 {
		t.Errorf("resources in the status = %v", l)
	}
	w.reopen()
	if l := w.status(id).GetResources().GetLinux(); l.GetMemoryLimitInBytes() != 128<<20 {
		t.Errorf("resources after a restart = %v", l)
	}

	var s *runtimeapi.ContainerStats
	w.eventually("it has a CPU rate", func() bool {
		if s, err = w.api.ContainerStats(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return s.GetCpu().GetUsageNanoCores() != nil
	})
	if s.Cpu.UsageCoreNanoSeconds.Value == 0 || s.Memory.WorkingSetBytes.Value == 0 || s.Memory.AvailableBytes.Value == 0 || s.WritableLayer.UsedBytes.Value != 4096 {
		t.Errorf("stats = %v", s)
	}
	ps, err := w.api.PodSandboxStats(t.Context(), sb)
	if err != nil || ps.Linux.Process.ProcessCount.Value < 2 || len(ps.Linux.Containers) != 1 || ps.Linux.Memory.UsageBytes.Value == 0 || ps.Linux.Network == nil {
		t.Errorf("sandbox stats = %v, %v", ps, err)
	}
	if list, err := w.api.ListContainerStats(t.Context(), &runtimeapi.ContainerStatsFilter{PodSandboxId: sb}); err != nil || len(list) != 1 {
		t.Errorf("stats of all = %v, %v", list, err)
	}
	if list, err := w.api.ListPodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsFilter{LabelSelector: map[string]string{"app": "other"}}); err != nil || len(list) != 0 {
		t.Errorf("stats of none = %v, %v", list, err)
	}
}

func TestOOM(t *testing.T) {
	w := realWorld(t)
	told := make(chan OOM, 16)
	w.cfg.OnOOM = func(o OOM) { told <- o }
	w.reopen()
	expect := func(container, message string) {
		t.Helper()
		select {
		case o := <-told:
			if o.PodUID != "oom-uid" || o.Container != container || !strings.Contains(o.Message, message) {
				t.Errorf("told %+v, want %s: %s", o, container, message)
			}
		case <-time.After(time.Minute):
			t.Fatalf("nobody told that %s is out of memory", container)
		}
	}
	pod := w.pod("oom")
	sb := w.runPod(pod)
	const eat = "dd if=/dev/zero of=/dev/null bs=200M count=1"
	limit := func(c *runtimeapi.ContainerConfig) *runtimeapi.ContainerConfig {
		c.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 20 << 20}
		return c
	}
	st := w.exit(w.run(sb, pod, limit(w.sh("first", "exec "+eat))))
	if st.Reason != "OOMKilled" || st.ExitCode != 137 || !strings.HasPrefix(st.Message, "the kernel killed the container for memory: limit 20Mi, peak ") {
		t.Errorf("its first process was the victim: %v", st)
	}
	expect("first", "limit 20Mi, peak ")

	lives := w.run(sb, pod, limit(w.sh("child", "trap 'exit 5' TERM; "+eat+"; while :; do sleep 0.1; done")))
	expect("child", "the kernel killed 1 process of the container for memory: limit 20Mi, peak ")
	if st := w.status(lives); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("its child was the victim: %v", st)
	}
	if err := w.api.StopContainer(t.Context(), lives, 60); err != nil {
		t.Fatal(err)
	}
	if st = w.exit(lives); st.Reason != "OOMKilled" || st.ExitCode != 5 || !strings.HasPrefix(st.Message, "the kernel killed 1 process of the container") {
		t.Errorf("its child was the victim: %v", st)
	}
	if st := w.exit(w.run(sb, pod, w.sh("none", "exit 1"))); st.Reason != "Error" || st.Message != "" {
		t.Errorf("nothing was the victim: %v", st)
	}
	select {
	case o := <-told:
		t.Errorf("told too much: %+v", o)
	default:
	}
}

func TestLists(t *testing.T) {
	w := realWorld(t)
	a, b := w.pod("a"), w.pod("b")
	sa, sb := w.runPod(a), w.runPod(b)
	c := w.sh("main", "exit 0")
	c.Labels = map[string]string{"k": "v"}
	id := w.run(sa, a, c)
	w.exit(id)
	w.create(sb, b, w.sh("main", "true"))
	if err := w.api.StopPodSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	sandboxes := func(f *runtimeapi.PodSandboxFilter) int {
		list, err := w.api.ListPodSandbox(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	containers := func(f *runtimeapi.ContainerFilter) int {
		list, err := w.api.ListContainers(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	ready := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}
	exited := &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_EXITED}
	for what, got := range map[string][2]int{
		"all":            {sandboxes(nil), 2},
		"ready":          {sandboxes(&runtimeapi.PodSandboxFilter{State: ready}), 1},
		"by ID":          {sandboxes(&runtimeapi.PodSandboxFilter{Id: sa[:12]}), 1},
		"by label":       {sandboxes(&runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"app": "b"}}), 1},
		"containers":     {containers(nil), 2},
		"exited":         {containers(&runtimeapi.ContainerFilter{State: exited}), 1},
		"of a sandbox":   {containers(&runtimeapi.ContainerFilter{PodSandboxId: sb}), 1},
		"with the label": {containers(&runtimeapi.ContainerFilter{LabelSelector: map[string]string{"k": "v"}}), 1},
		"with another":   {containers(&runtimeapi.ContainerFilter{LabelSelector: map[string]string{"k": "w"}}), 0},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %d, want %d", what, got[0], got[1])
		}
	}
}

// TestServe speaks to the runtime over its socket.
func TestServe(t *testing.T) {
	w := realWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.r.Serve(ctx, w.cfg.Paths.CRISocket, nil) }()
	conn, err := grpc.NewClient("unix://"+w.cfg.Paths.CRISocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := runtimeapi.NewRuntimeServiceClient(conn)
	v, err := client.Version(t.Context(), &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
	if err != nil || v.RuntimeName != "podium" || v.RuntimeApiVersion != "v1" {
		t.Errorf("version = %v, %v", v, err)
	}
	st, err := client.Status(t.Context(), &runtimeapi.StatusRequest{Verbose: true})
	if err != nil || len(st.Status.Conditions) != 2 || !st.Status.Conditions[0].Status || !st.Status.Conditions[1].Status || st.Info["info"] == "" {
		t.Errorf("status = %v, %v", st, err)
	}
	pod := w.pod("grpc")
	res, err := client.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: pod})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.StreamPodSandboxes(t.Context(), &runtimeapi.StreamPodSandboxesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if part, err := stream.Recv(); err != nil || len(part.PodSandboxes) != 1 || part.PodSandboxes[0].Id != res.PodSandboxId {
		t.Errorf("stream = %v, %v", part, err)
	}
	if fi, err := os.Stat(w.cfg.Paths.CRISocket); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket = %v, %v", fi, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
}
