package image

import (
	"context"
	"errors"
	"net"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
)

// Code is the gRPC code that CRI has for an error of this package.
func Code(err error) codes.Code {
	var status remoteerrors.ErrUnexpectedStatus
	switch {
	case err == nil:
		return codes.OK
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errdefs.IsNotFound(err):
		return codes.NotFound
	case errdefs.IsInvalidArgument(err):
		return codes.InvalidArgument
	case errdefs.IsAlreadyExists(err):
		return codes.AlreadyExists
	case errdefs.IsFailedPrecondition(err):
		return codes.FailedPrecondition
	case errors.Is(err, docker.ErrInvalidAuthorization):
		return codes.Unauthenticated
	case errdefs.IsUnavailable(err):
		return codes.Unavailable
	case errors.As(err, &status):
		return statusCode(status.StatusCode)
	case errors.As(err, new(*net.OpError)), errors.As(err, new(*net.DNSError)):
		return codes.Unavailable
	}
	return codes.Unknown
}

func statusCode(http int) codes.Code {
	switch {
	case http == 401:
		return codes.Unauthenticated
	case http == 403:
		return codes.PermissionDenied
	case http == 404:
		return codes.NotFound
	case http == 429:
		return codes.ResourceExhausted
	case http >= 500:
		return codes.Unavailable
	}
	return codes.Unknown
}

// kind gives an error a kind (one of errdefs') without a change of its words.
func kind(is, err error) error { return &kindError{error: err, is: is} }

type kindError struct {
	error
	is error
}

func (k *kindError) Unwrap() []error { return []error{k.error, k.is} }

// invalid marks what is the caller's fault, or an archive's.
func invalid(err error) error { return kind(errdefs.ErrInvalidArgument, err) }
