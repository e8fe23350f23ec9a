package worker

import (
	"context"
	"fmt"
	"maps"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/node/pod"
)

// The reasons of a container whose start failed.
const (
	configError = "CreateContainerConfigError"
	createError = "CreateContainerError"
	runError    = "RunContainerError"
	hookError   = "PostStartHookError"
)

// startError is why a step of a container's start failed.
type startError struct {
	reason string
	err    error
	id     string // of the container that was made, "" for none
}

func (e *startError) Error() string { return e.reason + ": " + message(e.err) }
func (e *startError) Unwrap() error { return e.err }

// startContainer makes and starts a container.
func (w *worker) startContainer(a pod.StartContainer) {
	p, c := w.pod, a.Container
	sandbox := *a.Sandbox
	ips := w.podIPs()
	w.work.Starts[c.Name] = &pod.Start{Step: pod.Step{Busy: true}, Hash: pod.Hash(c)}
	delete(w.work.Pulls, c.Name)
	w.useVolumes(a)
	w.begin("start/"+c.Name, 0, func(ctx context.Context) func() {
		id, err := w.bringUp(ctx, p, &sandbox, a, ips)
		return func() { w.started(p, c, id, sandbox.ID, err) }
	})
}

// useVolumes notes which image volumes a container is started with.
func (w *worker) useVolumes(a pod.StartContainer) {
	for name := range a.ImageVolumes {
		if p := w.work.VolumePulls[name]; p != nil {
			p.Used = maps.Clone(p.Used)
			if p.Used == nil {
				p.Used = map[string]bool{}
			}
			p.Used[a.Container.Name] = true
		}
	}
}

// imageVolumes are the images of volumes as the runtime is asked to mount them: refs has them by volume.
func imageVolumes(p *v1.Pod, refs map[string]string) map[string]*runtimeapi.ImageSpec {
	out := map[string]*runtimeapi.ImageSpec{}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if ref := refs[v.Name]; ref != "" && v.Image != nil {
			out[v.Name] = &runtimeapi.ImageSpec{Image: ref, UserSpecifiedImage: v.Image.Reference, Annotations: p.Annotations}
		}
	}
	return out
}

// bringUp takes the steps from a container's configuration to its start, and returns its ID.
func (w *worker) bringUp(ctx context.Context, p *v1.Pod, s *pod.Sandbox, a pod.StartContainer, ips []string) (string, *startError) {
	c, id := a.Container, a.ID
	policies := w.awaitPolicies(ctx, p, s.ID)
	var sandboxConfig *runtimeapi.PodSandboxConfig
	var config *runtimeapi.ContainerConfig
	err := w.step("config", c.Name, func() (err error) {
		if sandboxConfig, err = w.sandboxConfig(p, s); err == nil && id == "" {
			config, err = w.configure(ctx, p, a, ips, sandboxConfig)
		}
		return err
	})
	if err != nil {
		reason := container.Reason(err)
		if reason == "" {
			reason = configError
		}
		w.failedEvent(p, c, "", err)
		return "", &startError{reason: reason, err: err}
	}
	if id == "" {
		err = w.step("create", c.Name, func() (err error) {
			call, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			id, err = w.m.cfg.Runtime.CreateContainer(call, s.ID, config, sandboxConfig)
			return err
		})
		if err != nil {
			w.failedEvent(p, c, id, err)
			return "", &startError{reason: createError, err: err}
		}
		w.eventOf(p, c, v1.EventTypeNormal, "Created", "Container created")
	}
	err = w.step("start", c.Name, func() error {
		if hasPostStart(c) {
			if err := w.m.mark(id); err != nil {
				return fmt.Errorf("note that the postStart handler is to run: %w", err)
			}
		}
		if err := <-policies; err != nil {
			return err
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		return w.m.cfg.Runtime.StartContainer(call, id)
	})
	if err != nil {
		w.failedEvent(p, c, id, err)
		return id, &startError{reason: runError, err: err, id: id}
	}
	w.eventOf(p, c, v1.EventTypeNormal, "Started", "Container started")
	if config != nil {
		if err := w.m.cfg.Builder.LinkLog(sandboxConfig, config, id); err != nil {
			w.log().Error(err, "Cannot link the log of a container", "containerName", c.Name)
		}
	}
	return id, nil
}

// awaitPolicies waits for the network policies of the Pod while its container is made.
func (w *worker) awaitPolicies(ctx context.Context, p *v1.Pod, sandbox string) <-chan error {
	done := make(chan error, 1)
	if w.m.cfg.Policies == nil {
		done <- nil
		return done
	}
	go func() {
		done <- w.step("policies", "", func() error { return w.m.cfg.Policies.Ready(ctx, p, sandbox) })
	}()
	return done
}

// configure builds the configuration of a container.
func (w *worker) configure(ctx context.Context, p *v1.Pod, a pod.StartContainer, ips []string, sandbox *runtimeapi.PodSandboxConfig) (*runtimeapi.ContainerConfig, error) {
	c := a.Container
	if a.Target != "" && a.TargetID == "" {
		return nil, fmt.Errorf("unable to find target container %v", a.Target)
	}
	attempt := a.Attempt
	if attempt == 0 {
		attempt = int32(w.m.cfg.Builder.NextAttempt(p, c.Name))
	}
	status, err := w.m.cfg.ImageService.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: a.ImageRef}, false)
	if err != nil {
		return nil, err
	}
	config, err := w.m.cfg.Builder.Container(ctx, container.Input{
		Pod: p, Container: c, Attempt: uint32(max(attempt, 0)), ImageRef: a.ImageRef, Image: status.GetImage(),
		PodIPs: ips, Sandbox: sandbox, TargetID: a.TargetID, ImageVolumes: imageVolumes(p, a.ImageVolumes),
	})
	if err != nil {
		return nil, err
	}
	config.Annotations = maps.Clone(config.Annotations)
	if config.Annotations == nil {
		config.Annotations = map[string]string{}
	}
	if config.Annotations[pod.AllocationAnnotation], err = pod.FormatAllocation(pod.AllocationFor(p, c)); err != nil {
		return nil, err
	}
	if a.Backoff > 0 {
		config.Annotations[pod.BackoffAnnotation] = pod.FormatBackoff(a.Backoff, a.BackoffKey)
	}
	return config, nil
}

// started takes in how the start of a container ended.
func (w *worker) started(p *v1.Pod, c *v1.Container, id, sandbox string, err *startError) {
	if id != "" {
		switch {
		case !hasPostStart(c):
		case err == nil:
			w.runPostStart(p, c, id)
		default:
			w.m.unmark(id)
		}
		w.refresh(id, sandbox)
	}
	if err == nil {
		delete(w.work.Starts, c.Name)
		return
	}
	wait := retryStart
	if run := w.container(id); run != nil && run.State == pod.Exited {
		// Its back-off is counted from its end.
		wait = 0
	}
	w.work.Starts[c.Name] = &pod.Start{Step: w.failed(err.reason, message(err.err), wait), Hash: pod.Hash(c)}
}

// podIPs are the addresses that the containers of the Pod are told.
func (w *worker) podIPs() []string {
	o := &pod.Observed{Sandboxes: w.sandboxes}
	if w.m.cfg.HostIPs != nil {
		o.Node.HostIPs = w.m.cfg.HostIPs()
	}
	if w.pod.Spec.HostNetwork {
		return o.Node.HostIPs
	}
	return pod.PodIPs(o)
}

// failedEvent tells of a container that could not be started. IDs change with every try and would keep the
// events from being counted together, so the container's name stands for them.
func (w *worker) failedEvent(p *v1.Pod, c *v1.Container, id string, err error) {
	words := "Error: " + message(err)
	if id != "" {
		words = strings.ReplaceAll(words, id, c.Name)
	}
	w.eventOf(p, c, v1.EventTypeWarning, "Failed", words)
}
