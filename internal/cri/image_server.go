package cri

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/image"
)

// imageServer is the ImageService of CRI over the image store.
type imageServer struct {
	runtimeapi.UnimplementedImageServiceServer
	images *image.Service
}

// ImageService is the image store behind CRI's gRPC service.
func ImageService(images *image.Service) runtimeapi.ImageServiceServer {
	return &imageServer{images: images}
}

// localImages calls the service in this process.
type localImages struct {
	server *imageServer
}

// LocalImages is the image store behind the interface that the kubelet's client has, with no gRPC between. Its errors
// have the words alone, and their code for status.FromError.
func LocalImages(images *image.Service) internalapi.ImageManagerService {
	return &localImages{server: &imageServer{images: images}}
}

// Close implements internalapi.ImageManagerService; the store is closed by who opened it.
func (l *localImages) Close(context.Context) error { return nil }

// imageError gives an error of the image store its gRPC code.
func imageError(err error) error {
	if err == nil {
		return nil
	}
	return &codedError{error: err, code: image.Code(err)}
}

// codedError is an error with a gRPC code, and without the code in its words.
type codedError struct {
	error
	code codes.Code
}

func (e *codedError) GRPCStatus() *status.Status { return status.New(e.code, e.Error()) }

func (e *codedError) Unwrap() error { return e.error }
