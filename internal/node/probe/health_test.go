package probe

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	healthserver "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	v1 "k8s.io/api/core/v1"
)

func TestGRPC(t *testing.T) {
	agents := make(chan string, 10)
	listen := func(register func(*grpc.Server)) int32 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			asked, _ := metadata.FromIncomingContext(ctx)
			agents <- strings.Join(asked.Get("user-agent"), ",")
			return next(ctx, req)
		}))
		register(server)
		go func() { _ = server.Serve(l) }()
		t.Cleanup(server.Stop)
		return int32(l.Addr().(*net.TCPAddr).Port)
	}
	healthy := listen(func(s *grpc.Server) {
		h := healthserver.NewServer()
		h.SetServingStatus("sick", healthpb.HealthCheckResponse_NOT_SERVING)
		healthpb.RegisterHealthServer(s, h)
	})
	mute := listen(func(*grpc.Server) {})
	for _, tc := range []struct {
		name    string
		port    int32
		service string
		result  result
		text    string
	}{
		{"serving", healthy, "", succeeded, "service healthy"},
		{"not serving", healthy, "sick", failed, `service unhealthy (responded with "NOT_SERVING")`},
		{"unknown service", healthy, "none", failed, "error: health rpc probe failed: rpc error: code = NotFound"},
		{"no health", mute, "", failed, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health):"},
		{"no server", 1, "", failed, `timeout: failed to connect service "127.0.0.1:1" within 1s`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := &v1.Probe{ProbeHandler: v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: tc.port, Service: &tc.service}}}
			got := newAsker(nil).ask(context.Background(), spec, &v1.Container{}, Target{PodIP: "127.0.0.1"})
			if got.result != tc.result || !strings.HasPrefix(got.text, tc.text) {
				t.Errorf("got %+v", got)
			}
		})
	}
	if agent := <-agents; !strings.HasPrefix(agent, "kube-probe/1.37 podium/1.37 ") {
		t.Errorf("the server was asked by %q", agent)
	}
}
