package cri

import (
	"context"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RemoveImage removes an image with all its tags. One that is not here is no error, and one in use keeps its layers
// until its containers are gone.
func (s *imageServer) RemoveImage(ctx context.Context, req *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	err := s.images.Remove(ctx, req.GetImage().GetImage())
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, imageError(err)
	}
	return &runtimeapi.RemoveImageResponse{}, nil
}

// RemoveImage implements internalapi.ImageManagerService.
func (l *localImages) RemoveImage(ctx context.Context, spec *runtimeapi.ImageSpec) error {
	_, err := l.server.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: spec})
	return err
}
