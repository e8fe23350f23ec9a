package cri

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	criclient "k8s.io/cri-client/pkg"
	utilexec "k8s.io/utils/exec"
)

// Local is the runtime for who is in the same process: the same calls with nothing in between.
func (r *Runtime) Local() internalapi.RuntimeService { return local{r} }

type local struct{ r *Runtime }

var _ internalapi.RuntimeService = local{}

// errNoID is a create that gave no error and no ID; it cannot happen and is checked where a client would.
var errNoID = errors.New("the runtime answered without an ID")

func (l local) Version(ctx context.Context, apiVersion string) (*runtimeapi.VersionResponse, error) {
	return l.r.Version(ctx, &runtimeapi.VersionRequest{Version: apiVersion})
}

func (l local) RunPodSandbox(ctx context.Context, config *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	res, err := l.r.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
	return withID(res.GetPodSandboxId(), err)
}

func withID(id string, err error) (string, error) {
	if err == nil && id == "" {
		err = errNoID
	}
	return id, err
}

func (l local) StopPodSandbox(ctx context.Context, id string) error {
	_, err := l.r.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id})
	return err
}

func (l local) RemovePodSandbox(ctx context.Context, id string) error {
	_, err := l.r.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

func (l local) PodSandboxStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	return l.r.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id, Verbose: verbose})
}

func (l local) ListPodSandbox(_ context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	return l.r.listSandboxes(filter), nil
}

func (l local) PortForward(ctx context.Context, req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	return l.r.PortForward(ctx, req)
}

func (l local) UpdatePodSandboxResources(ctx context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return l.r.UpdatePodSandboxResources(ctx, req)
}

func (l local) CheckpointPod(ctx context.Context, req *runtimeapi.CheckpointPodRequest) error {
	_, err := l.r.CheckpointPod(ctx, req)
	return err
}

func (l local) RestorePod(ctx context.Context, req *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	return l.r.RestorePod(ctx, req)
}

func (l local) CreateContainer(ctx context.Context, sandbox string, config *runtimeapi.ContainerConfig, sandboxConfig *runtimeapi.PodSandboxConfig) (string, error) {
	res, err := l.r.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: sandbox, Config: config, SandboxConfig: sandboxConfig})
	return withID(res.GetContainerId(), err)
}

func (l local) StartContainer(ctx context.Context, id string) error {
	_, err := l.r.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id})
	return err
}

func (l local) StopContainer(ctx context.Context, id string, timeout int64) error {
	_, err := l.r.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: timeout})
	return err
}

func (l local) RemoveContainer(ctx context.Context, id string) error {
	_, err := l.r.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id})
	return err
}

func (l local) ListContainers(_ context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	return l.r.listContainers(filter), nil
}

func (l local) ContainerStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.ContainerStatusResponse, error) {
	return l.r.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: verbose})
}

func (l local) UpdateContainerResources(ctx context.Context, id string, res *runtimeapi.ContainerResources) error {
	_, err := l.r.UpdateContainerResources(ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: res.GetLinux()})
	return err
}

// ExecSync makes an error of an exit code other than 0, and of a timeout the one that clients know. A timeout need not
// be whole seconds. It returns the first maxLocalOutput bytes of each stream.
func (l local) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (stdout, stderr []byte, err error) {
	res, err := l.r.execSync(ctx, id, cmd, timeout, maxLocalOutput)
	if status.Code(err) == codes.DeadlineExceeded {
		return nil, nil, fmt.Errorf("%w: %q timed out after %s", criclient.ErrCommandTimedOut, strings.Join(cmd, " "), timeout)
	}
	if err != nil {
		return nil, nil, err
	}
	if code := res.GetExitCode(); code != 0 {
		err = utilexec.CodeExitError{
			Err:  fmt.Errorf("command '%s' exited with %d: %s", strings.Join(cmd, " "), code, res.GetStderr()),
			Code: int(code),
		}
	}
	return res.GetStdout(), res.GetStderr(), err
}

func (l local) Exec(ctx context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	return l.r.Exec(ctx, req)
}

func (l local) Attach(ctx context.Context, req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	return l.r.Attach(ctx, req)
}

func (l local) ReopenContainerLog(ctx context.Context, id string) error {
	_, err := l.r.ReopenContainerLog(ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
	return err
}

func (l local) CheckpointContainer(ctx context.Context, req *runtimeapi.CheckpointContainerRequest) error {
	_, err := l.r.CheckpointContainer(ctx, req)
	return err
}

// GetContainerEvents sends events into the channel until ctx ends. The callback gets nil: there is no connection.
func (l local) GetContainerEvents(ctx context.Context, ch chan *runtimeapi.ContainerEventResponse, established func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	ready := func() {
		if established != nil {
			established(nil)
		}
	}
	return l.r.events.listen(ctx, 0, ready, func(e *runtimeapi.ContainerEventResponse) error {
		select {
		case ch <- e:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

func (l local) ContainerStats(ctx context.Context, id string) (*runtimeapi.ContainerStats, error) {
	res, err := l.r.ContainerStats(ctx, &runtimeapi.ContainerStatsRequest{ContainerId: id})
	return res.GetStats(), err
}

func (l local) ListContainerStats(ctx context.Context, filter *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	return l.r.listContainerStats(ctx, filter), nil
}

func (l local) PodSandboxStats(ctx context.Context, id string) (*runtimeapi.PodSandboxStats, error) {
	res, err := l.r.PodSandboxStats(ctx, &runtimeapi.PodSandboxStatsRequest{PodSandboxId: id})
	return res.GetStats(), err
}

func (l local) ListPodSandboxStats(ctx context.Context, filter *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	return l.r.listSandboxStats(ctx, filter), nil
}

func (l local) ListMetricDescriptors(ctx context.Context) ([]*runtimeapi.MetricDescriptor, error) {
	res, err := l.r.ListMetricDescriptors(ctx, &runtimeapi.ListMetricDescriptorsRequest{})
	return res.GetDescriptors(), err
}

func (l local) ListPodSandboxMetrics(ctx context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	res, err := l.r.ListPodSandboxMetrics(ctx, &runtimeapi.ListPodSandboxMetricsRequest{})
	return res.GetPodMetrics(), err
}

func (l local) UpdateRuntimeConfig(ctx context.Context, config *runtimeapi.RuntimeConfig) error {
	_, err := l.r.UpdateRuntimeConfig(ctx, &runtimeapi.UpdateRuntimeConfigRequest{RuntimeConfig: config})
	return err
}

func (l local) Status(ctx context.Context, verbose bool) (*runtimeapi.StatusResponse, error) {
	return l.r.Status(ctx, &runtimeapi.StatusRequest{Verbose: verbose})
}

func (l local) RuntimeConfig(ctx context.Context) (*runtimeapi.RuntimeConfigResponse, error) {
	return l.r.RuntimeConfig(ctx, &runtimeapi.RuntimeConfigRequest{})
}

// Close does nothing: the runtime belongs to who made it.
func (l local) Close(context.Context) error { return nil }
