package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/node/qos"
)

// resizePod brings the Pod's cgroup and containers that run to what is allocated: the Pod grows first and
// shrinks last. What fails is tried again from the start, for every step can be done twice.
func (w *worker) resizePod(a pod.ResizePod) {
	p := w.pod
	last := w.work.Resize
	w.work.Resize = pod.Step{Busy: true, Reason: last.Reason, Message: last.Message}
	sandbox := ""
	if len(w.sandboxes) > 0 {
		sandbox = w.sandboxes[0].ID
	}
	w.begin("resize", callTimeout, func(ctx context.Context) func() {
		err := w.step("resize", "", func() error { return w.applyResize(ctx, p, sandbox, a) })
		return func() { w.applied(p, a, err) }
	})
}

func (w *worker) applyResize(ctx context.Context, p *v1.Pod, sandbox string, a pod.ResizePod) error {
	from := a.From.Apply(p)
	if err := w.roomToShrink(ctx, from, p, sandbox, a.Containers); err != nil {
		return err
	}
	if err := w.m.cfg.Cgroups.Grow(from, p); err != nil {
		return err
	}
	for _, c := range a.Containers {
		limits := &runtimeapi.ContainerResources{Linux: w.m.cfg.Builder.Resources(p, c.Container)}
		if err := w.m.cfg.Runtime.UpdateContainerResources(ctx, c.ID, limits); err != nil {
			return err
		}
	}
	return w.settleResize(ctx, p, sandbox)
}

// settleResize takes from the Pod's cgroup what is too much, as making the sandbox's configuration does, and tells
// the runtime what the Pod as a whole gets; one that cannot be told need not know.
func (w *worker) settleResize(ctx context.Context, p *v1.Pod, sandbox string) error {
	cfg, err := w.m.cfg.Builder.Sandbox(p, 0)
	if err != nil {
		return err
	}
	_, err = w.m.cfg.Runtime.UpdatePodSandboxResources(ctx, &runtimeapi.UpdatePodSandboxResourcesRequest{
		PodSandboxId: sandbox, Overhead: cfg.GetLinux().GetOverhead(), Resources: cfg.GetLinux().GetResources(),
	})
	if grpcstatus.Code(err) == codes.Unimplemented {
		return nil
	}
	return err
}

// roomToShrink refuses limits of memory below what is in use, which the kernel would enforce by force.
func (w *worker) roomToShrink(ctx context.Context, from, to *v1.Pod, sandbox string, containers []pod.Resized) error {
	var errs []error
	has, gets := podMemory(from), podMemory(to)
	if gets > 0 && (has == 0 || gets < has) {
		stats, err := w.m.cfg.Runtime.PodSandboxStats(ctx, sandbox)
		use := stats.GetLinux().GetMemory().GetUsageBytes()
		switch {
		case err != nil || use == nil:
			errs = append(errs, errors.New("missing pod memory usage"))
		case use.GetValue() >= uint64(gets):
			errs = append(errs, fmt.Errorf("attempting to set pod memory limit (%d) below current usage (%d)", gets, use.GetValue()))
		}
	}
	for _, c := range containers {
		if c.To.MemoryLimit == 0 || c.From.MemoryLimit != 0 && c.To.MemoryLimit >= c.From.MemoryLimit {
			continue
		}
		stats, err := w.m.cfg.Runtime.ContainerStats(ctx, c.ID)
		use := stats.GetMemory().GetUsageBytes()
		switch {
		case err != nil || use == nil:
			errs = append(errs, fmt.Errorf("missing container %q memory usage", c.Container.Name))
		case use.GetValue() >= uint64(c.To.MemoryLimit):
			errs = append(errs, fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)",
				c.Container.Name, c.To.MemoryLimit, use.GetValue()))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("cannot decrease memory limits: %w", utilerrors.NewAggregate(errs))
	}
	return nil
}

// podMemory is the memory limit of the Pod's cgroup, 0 for none.
func podMemory(p *v1.Pod) int64 {
	if l := qos.ForPod(p, qos.Settings{Period: qos.DefaultPeriod}); l.Memory != nil {
		return *l.Memory
	}
	return 0
}

// applied takes in how a resize ended.
func (w *worker) applied(p *v1.Pod, a pod.ResizePod, err error) {
	for _, c := range a.Containers {
		if run := w.container(c.ID); run != nil {
			w.refresh(c.ID, run.SandboxID)
		}
	}
	if err != nil {
		last := w.work.Resize
		w.work.Resize = w.failed(v1.PodReasonError, message(err), retryStart)
		if last.Reason != w.work.Resize.Reason || last.Message != w.work.Resize.Message {
			w.event(nil, v1.EventTypeWarning, "ResizeError",
				resizeMessage(p, "Pod resize error", w.resizeGeneration(), w.work.Resize.Message))
		}
		return
	}
	w.work.Resize = pod.Step{}
	held := pod.AllocationOf(p)
	w.cgroup = &held
	granted := maps.Clone(w.granted)
	if granted == nil {
		granted = map[string]pod.Allocation{}
	}
	for _, c := range a.Containers {
		granted[c.ID] = pod.AllocationFor(p, c.Container)
	}
	for id := range granted {
		if w.container(id) == nil {
			delete(granted, id)
		}
	}
	w.granted = granted
	for _, c := range a.Containers {
		if run := w.container(c.ID); run != nil {
			w.refresh(c.ID, run.SandboxID)
		}
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.grant.Cgroup, w.grant.Containers = w.cgroup, granted
	if err := w.m.keepLocked(w); err != nil {
		// The resize is then done once more by the next daemon, which changes nothing.
		w.log().Error(err, "Cannot note that the pod was resized")
	}
}

// resizeGeneration is the generation of the spec that is being brought about.
func (w *worker) resizeGeneration() int64 {
	if w.orders.Resize != 0 {
		return w.orders.Resize
	}
	return w.pod.Generation
}

// resizeOver tells of a resize that has been brought about, and lets others have what it gave back.
func (w *worker) resizeOver() {
	inProgress := func(c v1.PodCondition) bool { return c.Type == v1.PodResizeInProgress }
	if !w.resizing || slices.ContainsFunc(w.status.Conditions, inProgress) {
		return
	}
	w.event(nil, v1.EventTypeNormal, "ResizeCompleted", resizeMessage(w.pod, "Pod resize completed", w.resizeGeneration(), ""))
	w.resizing, w.orders.Resize = false, 0
	w.m.roomChanged()
}
