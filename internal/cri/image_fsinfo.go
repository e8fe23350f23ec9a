package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageFsInfo is what all images take on disk. Containers' writable layers lie on the same file system, so there is no
// entry of their own.
func (s *imageServer) ImageFsInfo(ctx context.Context, _ *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	info, err := s.images.FsInfo(ctx)
	if err != nil {
		return nil, imageError(err)
	}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{{
		Timestamp:  info.When.UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: info.Path},
		UsedBytes:  &runtimeapi.UInt64Value{Value: uint64(info.Bytes)},
		InodesUsed: &runtimeapi.UInt64Value{Value: uint64(info.Inodes)},
	}}}, nil
}

// ImageFsInfo implements internalapi.ImageManagerService.
func (l *localImages) ImageFsInfo(ctx context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	return l.server.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
}
