package cri

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestPodLife(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("web")
	begin := time.Now()
	sb := w.runPod(pod)
	t.Logf("sandbox in %v", time.Since(begin))
	if again := w.runPod(pod); again != sb {
		t.Errorf("asked twice: sandboxes %s and %s", sb, again)
	}
	st := w.sandboxStatus(sb)
	if st.State != runtimeapi.PodSandboxState_SANDBOX_READY || st.Network.Ip != "10.88.0.1" || st.Metadata.Name != "web" {
		t.Errorf("sandbox status = %v", st)
	}
	c := w.sh("main", "echo hello; hostname; exit 3")
	begin = time.Now()
	id := w.create(sb, pod, c)
	t.Logf("container created in %v", time.Since(begin))
	if again := w.create(sb, pod, c); again != id {
		t.Errorf("asked twice: containers %s and %s", id, again)
	}
	if got := w.status(id); got.State != runtimeapi.ContainerState_CONTAINER_CREATED || got.CreatedAt == 0 || got.StartedAt != 0 || got.ImageId != w.images.img.ID {
		t.Errorf("created container = %v", got)
	}
	begin = time.Now()
	w.start(id)
	t.Logf("container started in %v", time.Since(begin))
	got := w.exit(id)
	if got.ExitCode != 3 || got.Reason != "Error" || got.StartedAt == 0 || got.FinishedAt < got.StartedAt {
		t.Errorf("ended container = %v", got)
	}
	if log := w.log(id); log != "hello\nweb\n" {
		t.Errorf("log = %q", log)
	}
	for range 2 { // idempotent
		if err := w.api.StopContainer(t.Context(), id, 10); err != nil {
			t.Error(err)
		}
		if err := w.api.RemoveContainer(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.api.ContainerStatus(t.Context(), id, false); status.Code(err) != codes.NotFound {
		t.Errorf("status of a removed container: %v", err)
	}
	second := w.run(sb, pod, w.sh("second", "sleep 1000"))
	for range 2 {
		if err := w.api.StopPodSandbox(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.exit(second); got.ExitCode != 137 {
		t.Errorf("container of a stopped sandbox = %v", got)
	}
	if st := w.sandboxStatus(sb); st.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY || st.Network.Ip != "" {
		t.Errorf("stopped sandbox = %v", st)
	}
	for range 2 {
		if err := w.api.RemovePodSandbox(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.api.PodSandboxStatus(t.Context(), sb, false); status.Code(err) != codes.NotFound {
		t.Errorf("status of a removed sandbox: %v", err)
	}
}

func TestStartError(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("bad")
	sb := w.runPod(pod)
	c := w.sh("main", "")
	c.Command, c.Args = []string{"nosuch"}, nil
	id := w.create(sb, pod, c)
	err := w.api.StartContainer(t.Context(), id)
	const want = `exec: "nosuch": executable file not found in $PATH`
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("start: %v", err)
	}
	st := w.status(id)
	if st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.ExitCode != 128 || st.Reason != "StartError" || !strings.Contains(st.Message, want) {
		t.Errorf("status = %v", st)
	}
	t.Log(st.Message)
	if err := w.api.StartContainer(t.Context(), id); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("start again: %v", err)
	}
}

func TestStop(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("stop")
	sb := w.runPod(pod)
	polite := w.run(sb, pod, w.sh("polite", "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done"))
	stubborn := w.run(sb, pod, w.sh("stubborn", "trap '' TERM; echo ready; while :; do sleep 1000 & wait; done"))
	for _, id := range []string{polite, stubborn} {
		w.eventually("ready", func() bool { return w.log(id) == "ready\n" })
	}
	begin := time.Now()
	if err := w.api.StopContainer(t.Context(), polite, 30); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("a polite container took %v to stop", took)
	}
	if in, err := w.cgroups.Children("kubepods/burstable/podstop"); err != nil || slices.ContainsFunc(in, func(c string) bool { return strings.Contains(c, polite) }) {
		t.Errorf("the container has stopped, and its cgroup is still one of %q, %v", in, err)
	}
	if st := w.status(polite); st.ExitCode != 0 || st.Reason != "Completed" {
		t.Errorf("polite container = %v", st)
	}
	begin = time.Now()
	if err := w.api.StopContainer(t.Context(), stubborn, 1); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < time.Second {
		t.Errorf("a stubborn container was killed after %v", took)
	}
	if st := w.status(stubborn); st.ExitCode != 137 || st.Reason != "Error" {
		t.Errorf("stubborn container = %v", st)
	}
}

func TestEvents(t *testing.T) {
	w := realWorld(t)
	ch := make(chan *runtimeapi.ContainerEventResponse, 100)
	ready := make(chan struct{})
	go func() {
		_ = w.api.GetContainerEvents(t.Context(), ch, func(runtimeapi.RuntimeService_GetContainerEventsClient) { close(ready) })
	}()
	<-ready
	pod := w.pod("events")
	sb := w.runPod(pod)
	id := w.run(sb, pod, w.sh("main", "exit 5"))
	w.exit(id)
	if err := w.api.RemoveContainer(t.Context(), id); err != nil {
		t.Error(err)
	}
	if err := w.api.StopPodSandbox(t.Context(), sb); err != nil {
		t.Error(err)
	}
	if err := w.api.RemovePodSandbox(t.Context(), sb); err != nil {
		t.Error(err)
	}
	var got []string
	for range 8 {
		select {
		case e := <-ch:
			who := "container"
			if e.ContainerId == sb {
				who = "sandbox"
			}
			got = append(got, fmt.Sprintf("%s %s %d", who, strings.TrimSuffix(strings.TrimPrefix(e.ContainerEventType.String(), "CONTAINER_"), "_EVENT"), len(e.ContainersStatuses)))
			if e.PodSandboxStatus.GetId() != sb {
				t.Errorf("event without its sandbox: %v", e)
			}
			if e.ContainerId == id && e.ContainerEventType == runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT && e.ContainersStatuses[0].ExitCode != 5 {
				t.Errorf("event of the end: %v", e.ContainersStatuses[0])
			}
		case <-time.After(patience):
			t.Fatalf("no more events after %v", got)
		}
	}
	want := "[sandbox CREATED 0 sandbox STARTED 0 container CREATED 1 container STARTED 1 container STOPPED 1 container DELETED 0 sandbox STOPPED 0 sandbox DELETED 0]"
	if fmt.Sprint(got) != want {
		t.Errorf("events\n%v, want\n%v", got, want)
	}
}
