package cri

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageStatus describes an image. For one that is not here the answer has none, which is no error. While the archives
// that lay in the images folder at the start are being taken in, it waits for one that may be among them.
func (s *imageServer) ImageStatus(ctx context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	ref := req.GetImage().GetImage()
	img, err := s.images.Await(ctx, ref)
	if errdefs.IsNotFound(err) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, imageError(fmt.Errorf("find image %q: %w", ref, err))
	}
	resp := &runtimeapi.ImageStatusResponse{Image: criImage(img)}
	if !req.GetVerbose() {
		return resp, nil
	}
	info, err := json.Marshal(struct {
		ChainID   string        `json:"chainID"`
		ImageSpec ocispec.Image `json:"imageSpec"`
	}{img.ChainID, ocispec.Image{Platform: img.Platform, Config: img.Config}})
	if err != nil {
		return nil, imageError(fmt.Errorf("describe image %q: %w", ref, err))
	}
	resp.Info = map[string]string{"info": string(info)}
	return resp, nil
}

// ImageStatus implements internalapi.ImageManagerService.
func (l *localImages) ImageStatus(ctx context.Context, spec *runtimeapi.ImageSpec, verbose bool) (*runtimeapi.ImageStatusResponse, error) {
	return l.server.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec, Verbose: verbose})
}
