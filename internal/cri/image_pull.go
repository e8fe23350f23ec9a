package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/image"
)

// PullProgress tells how far a pull has come.
type PullProgress = image.Progress

type progressKey struct{}

// WithPullProgress is a context in which a PullImage of this process tells how far it has come. progress must not
// block.
func WithPullProgress(ctx context.Context, progress func(PullProgress)) context.Context {
	return context.WithValue(ctx, progressKey{}, progress)
}

// PullImage pulls an image and returns its ID.
func (s *imageServer) PullImage(ctx context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	progress, _ := ctx.Value(progressKey{}).(func(PullProgress))
	img, err := s.images.Pull(ctx, req.GetImage().GetImage(), req.GetAuth(), progress)
	if err != nil {
		return nil, imageError(err)
	}
	return &runtimeapi.PullImageResponse{ImageRef: img.ID}, nil
}

// PullImage implements internalapi.ImageManagerService.
func (l *localImages) PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	resp, err := l.server.PullImage(ctx, &runtimeapi.PullImageRequest{Image: spec, Auth: auth, SandboxConfig: sandbox})
	return resp.GetImageRef(), err
}
