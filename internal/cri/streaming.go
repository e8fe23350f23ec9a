package cri

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	remotecommandserver "k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// startStreaming serves the streams of Exec, Attach and PortForward on a port of the loopback address that the kernel
// chooses. Who comes must bring the token of a URL that was given out before.
func (r *Runtime) startStreaming() error {
	l, err := (&net.ListenConfig{}).Listen(r.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	cfg := streaming.DefaultConfig
	r.streamingAt = l.Addr().(*net.TCPAddr).AddrPort()
	cfg.Addr = r.streamingAt.String()
	cfg.BaseURL = &url.URL{Scheme: "http", Host: cfg.Addr}
	if r.streaming, err = streaming.NewServer(cfg, r.Streams()); err != nil {
		_ = l.Close()
		return err
	}
	server := &http.Server{Handler: r.streaming, BaseContext: func(net.Listener) context.Context { return r.ctx }}
	r.background(func(ctx context.Context) {
		if err := server.Serve(lingering{l, r.ctx}); err != nil && ctx.Err() == nil {
			r.log.Error(err, "The server of streams has ended")
		}
	})
	context.AfterFunc(r.ctx, func() { _ = server.Close() })
	return nil
}

// StreamingAddr is where the streams are served.
func (r *Runtime) StreamingAddr() netip.AddrPort { return r.streamingAt }

// Streams are the streams themselves, for who is in the same process and needs no URL.
func (r *Runtime) Streams() streaming.Runtime { return streams{r} }

type streams struct{ r *Runtime }

func (s streams) Exec(ctx context.Context, id string, cmd []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommandserver.TerminalSize) error {
	return s.r.execStreams(ctx, id, cmd, in, out, errs, tty, resize)
}

func (s streams) Attach(ctx context.Context, id string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommandserver.TerminalSize) error {
	return s.r.attachStreams(ctx, id, in, out, errs, tty, resize)
}

func (s streams) PortForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	return s.r.portForward(ctx, id, port, stream)
}

// The lists that come as streams, one item a message at most many.

// listChunk is how many items go into a message.
const listChunk = 100

// sendChunks sends the list in parts.
func sendChunks[T any](list []T, send func([]T) error) error {
	for len(list) > 0 {
		n := min(listChunk, len(list))
		if err := send(list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// StreamPodSandboxes is ListPodSandbox in parts.
func (r *Runtime) StreamPodSandboxes(req *runtimeapi.StreamPodSandboxesRequest, s grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxesResponse]) error {
	return sendChunks(r.listSandboxes(req.GetFilter()), func(part []*runtimeapi.PodSandbox) error {
		return s.Send(&runtimeapi.StreamPodSandboxesResponse{PodSandboxes: part})
	})
}

// StreamContainers is ListContainers in parts.
func (r *Runtime) StreamContainers(req *runtimeapi.StreamContainersRequest, s grpc.ServerStreamingServer[runtimeapi.StreamContainersResponse]) error {
	return sendChunks(r.listContainers(req.GetFilter()), func(part []*runtimeapi.Container) error {
		return s.Send(&runtimeapi.StreamContainersResponse{Containers: part})
	})
}

// StreamContainerStats is ListContainerStats in parts.
func (r *Runtime) StreamContainerStats(req *runtimeapi.StreamContainerStatsRequest, s grpc.ServerStreamingServer[runtimeapi.StreamContainerStatsResponse]) error {
	return sendChunks(r.listContainerStats(s.Context(), req.GetFilter()), func(part []*runtimeapi.ContainerStats) error {
		return s.Send(&runtimeapi.StreamContainerStatsResponse{ContainerStats: part})
	})
}

// StreamPodSandboxStats is ListPodSandboxStats in parts.
func (r *Runtime) StreamPodSandboxStats(req *runtimeapi.StreamPodSandboxStatsRequest, s grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxStatsResponse]) error {
	return sendChunks(r.listSandboxStats(s.Context(), req.GetFilter()), func(part []*runtimeapi.PodSandboxStats) error {
		return s.Send(&runtimeapi.StreamPodSandboxStatsResponse{PodSandboxStats: part})
	})
}
