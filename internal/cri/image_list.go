package cri

import (
	"context"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/image"
)

// ListImages lists the images of the node; with a filter, the one that it names, if it is here.
func (s *imageServer) ListImages(ctx context.Context, req *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	found, err := s.list(ctx, req.GetFilter())
	if err != nil {
		return nil, imageError(err)
	}
	return &runtimeapi.ListImagesResponse{Images: found}, nil
}

// StreamImages is ListImages in several answers.
func (s *imageServer) StreamImages(req *runtimeapi.StreamImagesRequest, stream runtimeapi.ImageService_StreamImagesServer) error {
	found, err := s.list(stream.Context(), req.GetFilter())
	if err != nil {
		return imageError(err)
	}
	const atOnce = 1000
	for len(found) > 0 {
		n := min(atOnce, len(found))
		if err := stream.Send(&runtimeapi.StreamImagesResponse{Images: found[:n]}); err != nil {
			return err
		}
		found = found[n:]
	}
	return nil
}

func (s *imageServer) list(ctx context.Context, filter *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	if ref := filter.GetImage().GetImage(); ref != "" {
		img, err := s.images.Find(ctx, ref)
		if errdefs.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return []*runtimeapi.Image{criImage(img)}, nil
	}
	all, err := s.images.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*runtimeapi.Image, 0, len(all))
	for _, img := range all {
		out = append(out, criImage(img))
	}
	return out, nil
}

// ListImages implements internalapi.ImageManagerService.
func (l *localImages) ListImages(ctx context.Context, filter *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	found, err := l.server.list(ctx, filter)
	return found, imageError(err)
}

// criImage is an image as CRI describes it.
func criImage(img image.Image) *runtimeapi.Image {
	out := &runtimeapi.Image{
		Id: img.ID, RepoTags: img.Tags, RepoDigests: img.Digests, Size: uint64(img.Size), Pinned: img.Pinned,
		Spec: &runtimeapi.ImageSpec{Image: img.ID},
	}
	out.Uid, out.Username = imageUser(img.Config.User)
	return out
}

// imageUser reads the user of an image's configuration, "user" or "user:group": a number is a UID, all else a name.
func imageUser(user string) (*runtimeapi.Int64Value, string) {
	user, _, _ = strings.Cut(user, ":")
	if user == "" {
		return nil, ""
	}
	if uid, err := strconv.ParseInt(user, 10, 64); err == nil {
		return &runtimeapi.Int64Value{Value: uid}, ""
	}
	return nil, user
}
