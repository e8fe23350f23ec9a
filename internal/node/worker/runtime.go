package worker

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"
	kubelettypes "k8s.io/kubelet/pkg/types"

	"podium.dev/podium/internal/node/pod"
)

// found is what a listing of the runtime shows of a Pod.
type found struct {
	namespace, name string
	// where are the other places on the machine that have something of it.
	where []string
	// sandboxes are by ID whether they are ready, containers by ID.
	sandboxes  map[string]bool
	containers map[string]listed
}

// listed is what a listing shows of a container.
type listed struct {
	sandbox string
	state   runtimeapi.ContainerState
	// name is of the container, allocation what it was made with, nil when it does not say; made is when.
	name       string
	allocation *pod.Allocation
	made       int64
	ports      []v1.ContainerPort
}

// over reports whether nothing of the container runs any more.
func (l *listed) over() bool { return l.state == runtimeapi.ContainerState_CONTAINER_EXITED }

// quiet reports whether nothing of the Pod runs any more.
func (f *found) quiet() bool {
	for _, ready := range f.sandboxes {
		if ready {
			return false
		}
	}
	for _, c := range f.containers {
		if c.state == runtimeapi.ContainerState_CONTAINER_RUNNING || c.state == runtimeapi.ContainerState_CONTAINER_UNKNOWN {
			return false
		}
	}
	return true
}

// granted is what the newest containers were made with, by name.
func (f *found) granted() map[string]*pod.Allocation {
	out, made := map[string]*pod.Allocation{}, map[string]int64{}
	for _, c := range f.containers {
		if c.allocation != nil && (out[c.name] == nil || c.made > made[c.name]) {
			out[c.name], made[c.name] = c.allocation, c.made
		}
	}
	return out
}

// list lists what the runtime has, by the UID of the Pod.
func (m *Manager) list(ctx context.Context) (map[string]*found, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	sandboxes, err := m.cfg.Runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return nil, err
	}
	containers, err := m.cfg.Runtime.ListContainers(ctx, nil)
	if err != nil {
		return nil, err
	}
	all := map[string]*found{}
	of := func(labels map[string]string) *found {
		uid := labels[kubelettypes.KubernetesPodUIDLabel]
		if uid == "" {
			return nil // not a Pod of ours
		}
		f := all[uid]
		if f == nil {
			f = &found{
				namespace: labels[kubelettypes.KubernetesPodNamespaceLabel], name: labels[kubelettypes.KubernetesPodNameLabel],
				sandboxes: map[string]bool{}, containers: map[string]listed{},
			}
			all[uid] = f
		}
		return f
	}
	for _, s := range sandboxes {
		if f := of(s.GetLabels()); f != nil {
			f.sandboxes[s.GetId()] = s.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY
		}
	}
	for _, c := range containers {
		if f := of(c.GetLabels()); f != nil {
			f.containers[c.GetId()] = listed{
				sandbox: c.GetPodSandboxId(), state: c.GetState(), name: c.GetMetadata().GetName(), made: c.GetCreatedAt(),
				allocation: pod.ParseAllocation(c.GetAnnotations()[pod.AllocationAnnotation]),
				ports:      portsOf(c.GetLabels(), c.GetAnnotations()),
			}
		}
	}
	return all, nil
}

// load reads all that a listing shows of the Pod.
func (w *worker) load(f *found) {
	for id := range f.sandboxes {
		w.refreshSandbox(id)
	}
	for id, c := range f.containers {
		w.refresh(id, c.sandbox)
	}
	w.resumeHooks()
}

// compare takes in a listing: what differs from what the worker knows is read again. A nil listing is that
// the runtime has nothing of the Pod.
func (w *worker) compare(f *found) {
	if f == nil {
		f = &found{}
	}
	for _, s := range slices.Clone(w.sandboxes) {
		if ready, ok := f.sandboxes[s.ID]; !ok || ready != s.Ready {
			w.refreshSandbox(s.ID)
		}
	}
	for _, c := range slices.Clone(w.containers) {
		if have, ok := f.containers[c.ID]; !ok || convertState(have.state) != c.State {
			w.refresh(c.ID, c.SandboxID)
		}
	}
	for id := range f.sandboxes {
		if !slices.ContainsFunc(w.sandboxes, func(s pod.Sandbox) bool { return s.ID == id }) {
			w.refreshSandbox(id)
		}
	}
	for id, c := range f.containers {
		if w.container(id) == nil {
			w.refresh(id, c.sandbox)
		}
	}
}

// findSandboxes reads again which sandboxes the runtime has of the Pod.
func (w *worker) findSandboxes() {
	ctx, cancel := context.WithTimeout(w.ctx, callTimeout)
	defer cancel()
	list, err := w.m.cfg.Runtime.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{
		LabelSelector: map[string]string{kubelettypes.KubernetesPodUIDLabel: string(w.uid)},
	})
	if err != nil {
		w.log().Error(err, "Cannot list the sandboxes of the pod")
		return
	}
	for _, s := range list {
		w.refreshSandbox(s.GetId())
	}
}

// refresh reads a container, which is in the sandbox, again from the runtime.
func (w *worker) refresh(id, sandbox string) {
	ctx, cancel := context.WithTimeout(w.ctx, callTimeout)
	defer cancel()
	resp, err := w.m.cfg.Runtime.ContainerStatus(ctx, id, false)
	switch {
	case crierrors.IsNotFound(err) || (err == nil && resp.GetStatus() == nil):
		w.dropContainer(id)
		return
	case err != nil:
		w.log().Error(err, "Cannot read the status of a container", "containerID", id)
		return
	}
	status := resp.GetStatus()
	old := w.container(id)
	if old != nil && old.State == pod.Exited && status.GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
		return // it does not change any more
	}
	c := convertContainer(status, sandbox)
	if granted, ok := w.granted[id]; ok {
		c.Granted = &granted
	}
	if c.State == pod.Exited {
		c.Message = endMessage(ctx, status, c.Message)
	}
	// Observations are handed out, so the list is not changed but replaced.
	next := slices.DeleteFunc(slices.Clone(w.containers), func(have pod.Container) bool { return have.ID == id })
	next = append(next, c)
	slices.SortStableFunc(next, func(a, b pod.Container) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.Attempt, a.Attempt))
	})
	w.containers = next
}

// refreshSandbox reads a sandbox again from the runtime.
func (w *worker) refreshSandbox(id string) {
	ctx, cancel := context.WithTimeout(w.ctx, callTimeout)
	defer cancel()
	resp, err := w.m.cfg.Runtime.PodSandboxStatus(ctx, id, false)
	switch {
	case crierrors.IsNotFound(err) || (err == nil && resp.GetStatus() == nil):
		w.dropSandbox(id)
		return
	case err != nil:
		w.log().Error(err, "Cannot read the status of a sandbox", "sandboxID", id)
		return
	}
	next := slices.DeleteFunc(slices.Clone(w.sandboxes), func(have pod.Sandbox) bool { return have.ID == id })
	next = append(next, convertSandbox(resp.GetStatus()))
	slices.SortStableFunc(next, func(a, b pod.Sandbox) int { return cmp.Compare(b.Attempt, a.Attempt) })
	w.sandboxes = next
}

// container returns what is known of a container, nil for nothing.
func (w *worker) container(id string) *pod.Container {
	for i := range w.containers {
		if w.containers[i].ID == id {
			return &w.containers[i]
		}
	}
	return nil
}

// ignoreNotFound is err, but nil when it says that what was to be ended is gone.
func ignoreNotFound(err error) error {
	if crierrors.IsNotFound(err) || grpcstatus.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

// message is what an error of the runtime says, without the code that gRPC puts before it.
func message(err error) string {
	if s, ok := grpcstatus.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}
