package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"
	"k8s.io/utils/clock"
)

// fakeRuntime is a scripted runtime: its containers run until a test, or their own script, ends them.
type fakeRuntime struct {
	internalapi.RuntimeService
	internalapi.ImageManagerService
	clock clock.Clock

	mu         sync.Mutex
	next       int
	sandboxes  map[string]*runtimeapi.PodSandboxStatus
	containers map[string]*fakeContainer
	watchers   map[int]chan *runtimeapi.ContainerEventResponse
	breaks     map[int]chan struct{}
	// calls are the calls that change something, in order.
	calls []string
	// exits scripts what a container does when it is started: it ends at once with the code.
	exits map[string]int32
	// deaf are containers that do not end when they are asked to: only their grace period ends them.
	deaf map[string]bool
	// fail scripts an error of a call, by "METHOD" or "METHOD NAME".
	fail map[string]error
	// images are those that are there.
	images map[string]*runtimeapi.Image
	// mute drops events.
	mute bool
	// late, when it is not nil, makes sandboxes only when it is closed: a call that is cancelled before has its effect
	// all the same.
	late chan struct{}
}

type fakeContainer struct {
	status  *runtimeapi.ContainerStatus
	sandbox string
	stopped chan struct{}
}

func newFakeRuntime(c clock.Clock) *fakeRuntime {
	return &fakeRuntime{
		clock: c, sandboxes: map[string]*runtimeapi.PodSandboxStatus{}, containers: map[string]*fakeContainer{},
		watchers: map[int]chan *runtimeapi.ContainerEventResponse{}, breaks: map[int]chan struct{}{},
		exits: map[string]int32{}, deaf: map[string]bool{}, fail: map[string]error{},
		images: map[string]*runtimeapi.Image{"nginx:1": {Id: "sha256:nginx", Size: 42}},
	}
}

var errGone = grpcstatus.Error(codes.NotFound, "not found")

// calledLocked notes a call and returns the error that is scripted for it. The lock is held.
func (f *fakeRuntime) calledLocked(method, name string) error {
	f.calls = append(f.calls, method+" "+name)
	if err := f.fail[method+" "+name]; err != nil {
		return err
	}
	return f.fail[method]
}

// emitLocked tells an event to whoever listens. The lock is held.
func (f *fakeRuntime) emitLocked(id, sandbox string, kind runtimeapi.ContainerEventType) {
	if f.mute {
		return
	}
	box := f.sandboxes[sandbox]
	if box == nil {
		return
	}
	e := &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, PodSandboxStatus: box}
	for _, w := range f.watchers {
		w <- e
	}
}

func (f *fakeRuntime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{RuntimeName: "podium"}, nil
}

func (f *fakeRuntime) GetContainerEvents(ctx context.Context, ch chan *runtimeapi.ContainerEventResponse, ready func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	f.mu.Lock()
	f.next++
	n := f.next
	own := make(chan *runtimeapi.ContainerEventResponse, 1024)
	stop := make(chan struct{})
	f.watchers[n], f.breaks[n] = own, stop
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.watchers, n)
		delete(f.breaks, n)
		f.mu.Unlock()
	}()
	ready(nil)
	for {
		select {
		case e := <-own:
			select {
			case ch <- e:
			case <-ctx.Done():
				return ctx.Err()
			}
		case <-stop:
			return errors.New("the stream broke")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// breakStreams ends all streams of events.
func (f *fakeRuntime) breakStreams() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.breaks {
		close(b)
	}
	f.breaks = map[int]chan struct{}{}
	f.watchers = map[int]chan *runtimeapi.ContainerEventResponse{}
}

func (f *fakeRuntime) RunPodSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, _ string) (string, error) {
	f.mu.Lock()
	late := f.late
	f.mu.Unlock()
	if late != nil {
		select {
		case <-late:
		case <-ctx.Done():
			go func() {
				<-late
				_, _ = f.runSandbox(cfg)
			}()
			return "", ctx.Err()
		}
	}
	return f.runSandbox(cfg)
}

func (f *fakeRuntime) runSandbox(cfg *runtimeapi.PodSandboxConfig) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.calledLocked("RunPodSandbox", cfg.Metadata.Name); err != nil {
		return "", err
	}
	f.next++
	id := fmt.Sprintf("sandbox-%d", f.next)
	f.sandboxes[id] = &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: cfg.Metadata, State: runtimeapi.PodSandboxState_SANDBOX_READY, Labels: cfg.Labels,
		CreatedAt: f.clock.Now().UnixNano(), Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.1.0.2"},
	}
	f.emitLocked(id, id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return id, nil
}

func (f *fakeRuntime) StopPodSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	box := f.sandboxes[id]
	if box == nil {
		return errGone
	}
	if err := f.calledLocked("StopPodSandbox", box.Metadata.Name); err != nil {
		return err
	}
	f.endSandboxLocked(id)
	return nil
}

// endSandboxLocked ends a sandbox and what is in it. The lock is held.
func (f *fakeRuntime) endSandboxLocked(id string) {
	// A status that was handed out is not changed.
	old := f.sandboxes[id]
	f.sandboxes[id] = &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: old.Metadata, State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY, Labels: old.Labels,
		CreatedAt: old.CreatedAt, Network: &runtimeapi.PodSandboxNetworkStatus{},
	}
	for cid, c := range f.containers {
		if c.sandbox == id {
			f.endLocked(cid, 137)
		}
	}
	f.emitLocked(id, id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

func (f *fakeRuntime) RemovePodSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	box := f.sandboxes[id]
	if box == nil {
		return nil
	}
	if err := f.calledLocked("RemovePodSandbox", box.Metadata.Name); err != nil {
		return err
	}
	delete(f.sandboxes, id)
	for cid, c := range f.containers {
		if c.sandbox == id {
			delete(f.containers, cid)
		}
	}
	return nil
}

func (f *fakeRuntime) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sandboxes[id] == nil {
		return nil, errGone
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: f.sandboxes[id]}, nil
}

func (f *fakeRuntime) ListPodSandbox(_ context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*runtimeapi.PodSandbox
	for id, s := range f.sandboxes {
		if uid := filter.GetLabelSelector()[kubelettypes.KubernetesPodUIDLabel]; uid != "" && s.Labels[kubelettypes.KubernetesPodUIDLabel] != uid {
			continue
		}
		list = append(list, &runtimeapi.PodSandbox{Id: id, Metadata: s.Metadata, State: s.State, Labels: s.Labels})
	}
	return list, nil
}

func (f *fakeRuntime) CreateContainer(_ context.Context, sandbox string, cfg *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.calledLocked("CreateContainer", cfg.Metadata.Name); err != nil {
		return "", err
	}
	for _, c := range f.containers {
		if m := c.status.Metadata; c.sandbox == sandbox && m.Name == cfg.Metadata.Name && m.Attempt == cfg.Metadata.Attempt {
			return "", fmt.Errorf("container %s, attempt %d, is there", m.Name, m.Attempt)
		}
	}
	f.next++
	id := fmt.Sprintf("%s-%d", cfg.Metadata.Name, f.next)
	f.containers[id] = &fakeContainer{sandbox: sandbox, stopped: make(chan struct{}), status: &runtimeapi.ContainerStatus{
		Id: id, Metadata: cfg.Metadata, Labels: cfg.Labels, Annotations: cfg.Annotations, Image: cfg.Image,
		ImageRef: "sha256:nginx", State: runtimeapi.ContainerState_CONTAINER_CREATED,
		CreatedAt: f.clock.Now().UnixNano() + int64(f.next), Mounts: cfg.Mounts,
	}}
	f.emitLocked(id, sandbox, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	return id, nil
}

// setLocked replaces a container's status: one that was handed out is not changed. The lock is held.
func (f *fakeRuntime) setLocked(id string, change func(*runtimeapi.ContainerStatus)) {
	old := f.containers[id].status
	next := &runtimeapi.ContainerStatus{
		Id: old.Id, Metadata: old.Metadata, Labels: old.Labels, Annotations: old.Annotations, Image: old.Image,
		ImageRef: old.ImageRef, State: old.State, CreatedAt: old.CreatedAt, StartedAt: old.StartedAt, Mounts: old.Mounts,
		FinishedAt: old.FinishedAt, ExitCode: old.ExitCode, Reason: old.Reason, Message: old.Message, Resources: old.Resources,
	}
	change(next)
	f.containers[id].status = next
}

func (f *fakeRuntime) StartContainer(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	if c == nil {
		return errGone
	}
	name := c.status.Metadata.Name
	if err := f.calledLocked("StartContainer", name); err != nil {
		f.setLocked(id, func(s *runtimeapi.ContainerStatus) {
			s.State, s.ExitCode, s.Reason = runtimeapi.ContainerState_CONTAINER_EXITED, 128, "StartError"
			s.StartedAt, s.FinishedAt = s.CreatedAt, f.clock.Now().UnixNano()
		})
		return err
	}
	for other, o := range f.containers {
		if other != id && o.sandbox == c.sandbox && o.status.Metadata.Name == name && o.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			panic("container " + name + " was started twice")
		}
	}
	f.setLocked(id, func(s *runtimeapi.ContainerStatus) {
		s.State, s.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, f.clock.Now().UnixNano()
	})
	f.emitLocked(id, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	if code, ok := f.exits[name]; ok {
		f.endLocked(id, code)
	}
	return nil
}

// endLocked ends a container. The lock is held.
func (f *fakeRuntime) endLocked(id string, code int32) {
	c := f.containers[id]
	if c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return
	}
	f.setLocked(id, func(s *runtimeapi.ContainerStatus) {
		s.State, s.FinishedAt, s.ExitCode = runtimeapi.ContainerState_CONTAINER_EXITED, f.clock.Now().UnixNano(), code
		s.Reason = "Completed"
		if code != 0 {
			s.Reason = "Error"
		}
	})
	close(c.stopped)
	f.emitLocked(id, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

// exit ends the running container of the name.
func (f *fakeRuntime) exit(name string, code int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, c := range f.containers {
		if c.status.Metadata.Name == name && c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			f.endLocked(id, code)
		}
	}
}

// killSandboxes ends all sandboxes.
func (f *fakeRuntime) killSandboxes() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, s := range f.sandboxes {
		if s.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			f.endSandboxLocked(id)
		}
	}
}

func (f *fakeRuntime) StopContainer(ctx context.Context, id string, grace int64) error {
	f.mu.Lock()
	c := f.containers[id]
	if c == nil {
		f.mu.Unlock()
		return errGone
	}
	name := c.status.Metadata.Name
	timer := f.clock.NewTimer(time.Duration(grace) * time.Second)
	defer timer.Stop()
	if err := f.calledLocked("StopContainer", fmt.Sprintf("%s %d", name, grace)); err != nil {
		f.mu.Unlock()
		return err
	}
	if !f.deaf[name] {
		f.endLocked(id, 143)
	}
	f.mu.Unlock()
	select {
	case <-c.stopped:
	case <-timer.C():
		f.mu.Lock()
		f.endLocked(id, 137)
		f.mu.Unlock()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (f *fakeRuntime) RemoveContainer(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.containers[id]; c != nil {
		if err := f.calledLocked("RemoveContainer", c.status.Metadata.Name); err != nil {
			return err
		}
		delete(f.containers, id)
	}
	return nil
}

func (f *fakeRuntime) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.containers[id] == nil {
		return nil, errGone
	}
	return &runtimeapi.ContainerStatusResponse{Status: f.containers[id].status}, nil
}

func (f *fakeRuntime) ListContainers(_ context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*runtimeapi.Container
	for id, c := range f.containers {
		if want := filter.GetId(); want != "" && want != id {
			continue
		}
		list = append(list, &runtimeapi.Container{
			Id: id, PodSandboxId: c.sandbox, Metadata: c.status.Metadata, State: c.status.State, Labels: c.status.Labels,
			Annotations: c.status.Annotations, CreatedAt: c.status.CreatedAt,
		})
	}
	return list, nil
}

func (f *fakeRuntime) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if img := f.images[spec.Image]; img != nil {
		return &runtimeapi.ImageStatusResponse{Image: img}, nil
	}
	for _, img := range f.images {
		if img.Id == spec.Image {
			return &runtimeapi.ImageStatusResponse{Image: img}, nil
		}
	}
	return &runtimeapi.ImageStatusResponse{}, nil
}

func (f *fakeRuntime) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, _ *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.calledLocked("PullImage", spec.Image); err != nil {
		return "", err
	}
	f.images[spec.Image] = &runtimeapi.Image{Id: "sha256:" + spec.Image, Size: 7}
	return "sha256:" + spec.Image, nil
}

func (f *fakeRuntime) UpdateContainerResources(_ context.Context, id string, r *runtimeapi.ContainerResources) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	if c == nil {
		return errGone
	}
	if err := f.calledLocked("UpdateContainerResources", c.status.Metadata.Name); err != nil {
		return err
	}
	f.setLocked(id, func(s *runtimeapi.ContainerStatus) { s.Resources = r })
	return nil
}

// quotas are the quotas of processor time of a Pod's containers that were ever resized.
func (f *fakeRuntime) quotas(uid string) (quotas []int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if q := c.status.Resources.GetLinux().GetCpuQuota(); q > 0 && f.sandboxes[c.sandbox].GetMetadata().GetUid() == uid {
			quotas = append(quotas, q)
		}
	}
	return quotas
}

func (f *fakeRuntime) UpdatePodSandboxResources(_ context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

func (f *fakeRuntime) ContainerStats(_ context.Context, id string) (*runtimeapi.ContainerStats, error) {
	return &runtimeapi.ContainerStats{Memory: &runtimeapi.MemoryUsage{UsageBytes: &runtimeapi.UInt64Value{Value: 10 << 20}}}, nil
}

func (f *fakeRuntime) PodSandboxStats(_ context.Context, id string) (*runtimeapi.PodSandboxStats, error) {
	return &runtimeapi.PodSandboxStats{Linux: &runtimeapi.LinuxPodSandboxStats{
		Memory: &runtimeapi.MemoryUsage{UsageBytes: &runtimeapi.UInt64Value{Value: 10 << 20}},
	}}, nil
}

func (f *fakeRuntime) Close(context.Context) error { return nil }

// script changes the fake under its lock.
func (f *fakeRuntime) script(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// callList is the calls so far.
func (f *fakeRuntime) callList() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// count counts the calls so far that equal the words.
func (f *fakeRuntime) count(call string) int {
	n := 0
	for _, c := range f.callList() {
		if c == call {
			n++
		}
	}
	return n
}

// empty reports whether the runtime has nothing left.
func (f *fakeRuntime) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sandboxes) == 0 && len(f.containers) == 0
}
