package services

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// Bounds of the servers of health checks, which anybody may reach.
const (
	maxHealthConnections = 64
	maxHealthHeader      = 4 << 10
	healthTimeout        = 5 * time.Second
)

// healthPorts are the servers that tell load balancers of Services with externalTrafficPolicy Local whether this node has
// an endpoint, one for each such Service, on its healthCheckNodePort.
type healthPorts map[types.NamespacedName]*healthPort

type healthPort struct {
	port   uint16
	server *http.Server
	local  atomic.Int64
}

// set makes a Service's server what it must be; nil is a Service that is gone.
func (h *healthPorts) set(name types.NamespacedName, s *service, local int) {
	have := (*h)[name]
	if have != nil && (s == nil || s.health != have.port) {
		have.server.Close()
		delete(*h, name)
		have = nil
	}
	if s == nil || s.health == 0 {
		return
	}
	if have == nil {
		if have = openHealthPort(name, s.health); have == nil {
			return
		}
		if *h == nil {
			*h = healthPorts{}
		}
		(*h)[name] = have
	}
	have.local.Store(int64(local))
}

func (h *healthPorts) close() {
	for _, p := range *h {
		p.server.Close()
	}
}

// openHealthPort listens on the port; nil if another program does. The next change of the Service tries again.
func openHealthPort(name types.NamespacedName, port uint16) *healthPort {
	l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(port))))
	if err != nil {
		klog.Background().Error(err, "Failed to start healthcheck", "service", name, "port", port)
		return nil
	}
	p := &healthPort{port: port}
	p.server = &http.Server{
		Handler: p.handler(name), ReadTimeout: healthTimeout, WriteTimeout: healthTimeout, IdleTimeout: healthTimeout, MaxHeaderBytes: maxHealthHeader,
	}
	go func() {
		if err := p.server.Serve(netutil.LimitListener(l, maxHealthConnections)); !errors.Is(err, http.ErrServerClosed) {
			klog.Background().Error(err, "The server of a Service's health check ended", "service", name)
		}
	}()
	return p
}

// handler answers as kube-proxy does.
func (p *healthPort) handler(name types.NamespacedName) http.Handler {
	type ref struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	type body struct {
		Service             ref   `json:"service"`
		LocalEndpoints      int64 `json:"localEndpoints"`
		ServiceProxyHealthy bool  `json:"serviceProxyHealthy"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		local := p.local.Load()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.FormatInt(local, 10))
		if local == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		// An error is that the client has gone.
		_ = json.NewEncoder(w).Encode(body{Service: ref{name.Namespace, name.Name}, LocalEndpoints: local, ServiceProxyHealthy: true})
	})
}
