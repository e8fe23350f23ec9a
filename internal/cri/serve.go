package cri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxMessage is how large a gRPC message may be, as CRI's clients have it.
const maxMessage = 16 << 20

// Serve serves CRI over gRPC on a unix socket that only root can open, until ctx ends or the runtime is closed.
func (r *Runtime) Serve(ctx context.Context, socketPath string, images runtimeapi.ImageServiceServer) error {
	if err := os.MkdirAll(filepath.Dir(socketPath), 0o700); err != nil {
		return fmt.Errorf("serve CRI on %s: %w", socketPath, err)
	}
	// There is one runtime on these folders, so a socket that is there is of one that was killed.
	if err := os.Remove(socketPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("serve CRI on %s: %w", socketPath, err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socketPath)
	if err != nil {
		return fmt.Errorf("serve CRI on %s: %w", socketPath, err)
	}
	if err := os.Chmod(socketPath, 0o600); err != nil {
		_ = l.Close()
		return fmt.Errorf("serve CRI on %s: %w", socketPath, err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	runtimeapi.RegisterRuntimeServiceServer(server, r)
	if images != nil {
		runtimeapi.RegisterImageServiceServer(server, images)
	}
	stop := func() { server.Stop() }
	defer context.AfterFunc(ctx, stop)()
	defer context.AfterFunc(r.ctx, stop)()
	if err := server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve CRI on %s: %w", socketPath, err)
	}
	return nil
}
