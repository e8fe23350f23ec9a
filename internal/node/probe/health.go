package probe

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-base/version"

	"podium.dev/podium/internal/node/handler"
)

// userAgent is what gRPC probes say they come from: a kubelet's name first, which servers know, then our own.
var userAgent = handler.UserAgent("probe") + " podium/" + version.DefaultKubeBinaryVersion

// health asks by gRPC's health protocol.
func health(ctx context.Context, action *v1.GRPCAction, t Target, timeout time.Duration) answer {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	security := insecure.NewCredentials()
	if action.Mode != nil && *action.Mode == v1.GRPCProbeModeTLS {
		// As with HTTPS probes, certificates of Pods are their own affair.
		security = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	}
	address := net.JoinHostPort(t.PodIP, strconv.Itoa(int(action.Port)))
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithUserAgent(userAgent),
		grpc.WithTransportCredentials(security),
		grpc.WithMaxHeaderListSize(maxHeader),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return handler.Dialer().DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		return failure("error: failed to connect service at %q: %+v", address, err)
	}
	defer conn.Close()
	if !connected(ctx, conn) {
		return failure("timeout: failed to connect service %q within %v: %+v", address, timeout, context.DeadlineExceeded)
	}
	request := &healthpb.HealthCheckRequest{}
	if action.Service != nil {
		request.Service = *action.Service
	}
	response, err := healthpb.NewHealthClient(conn).Check(ctx, request)
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		return failure("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
	case codes.DeadlineExceeded:
		return failure("timeout: health rpc did not complete within %v", timeout)
	default:
		return failure("error: health rpc probe failed: %+v", err)
	}
	if response.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return failure("service unhealthy (responded with %q)", response.GetStatus().String())
	}
	return answer{result: succeeded, text: "service healthy"}
}

// connected waits for a connection, which is tried for until ctx ends: only so is a server that is not there
// told from one that does not answer.
func connected(ctx context.Context, conn *grpc.ClientConn) bool {
	conn.Connect()
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return true
		}
		if !conn.WaitForStateChange(ctx, state) {
			return false
		}
		conn.Connect()
	}
}
