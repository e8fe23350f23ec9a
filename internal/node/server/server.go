// Package server is the node's HTTPS server: logs, exec, attach and port-forward of its Pods, their list,
// metrics and statistics, on the paths of the kubelet's server. It answers the API server only.
package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/metrics/legacyregistry"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/klog/v2"
)

// Pods is where the server looks Pods up: those that the node has, mirror Pods as the static Pods they show.
type Pods interface {
	// Pod returns a Pod with its newest status.
	Pod(namespace, name string) (*corev1.Pod, bool)
	// Pods returns all of them.
	Pods() []*corev1.Pod
}

// Config is what a Server is made of.
type Config struct {
	NodeName string
	Pods     Pods
	Runtime  internalapi.RuntimeService
	Stats    Stats
	// TLS verifies the client's certificate against the cluster's CA.
	TLS *tls.Config
	// Clients are the common names of the certificates that are answered.
	Clients []string
	// Settings is what /configz shows.
	Settings any
	// LogDir is what /logs/ shows.
	LogDir string
}

// Server is the node's server.
type Server struct {
	c    Config
	http *http.Server
}

// New makes a server. It listens only when Serve is called.
func New(c Config) *Server {
	s := &Server{c: c}
	s.http = &http.Server{
		Handler:           s.authorized(s.routes()),
		TLSConfig:         c.TLS,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       90 * time.Second,
	}
	return s
}

// Serve answers on l until the context ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	if err := s.http.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the node's API: %w", err)
	}
	return nil
}

// routes lists every path once.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }
	mux.HandleFunc("GET /healthz", ok)
	mux.HandleFunc("GET /healthz/ping", ok)
	mux.HandleFunc("GET /healthz/syncloop", ok)
	mux.HandleFunc("GET /pods", s.listPods)
	mux.HandleFunc("GET /pods/{$}", s.listPods)
	mux.HandleFunc("GET /configz", s.configz)
	mux.Handle("GET /metrics", legacyregistry.Handler())
	mux.HandleFunc("GET /metrics/resource", s.resourceMetrics)
	mux.HandleFunc("GET /metrics/cadvisor", s.cadvisorMetrics)
	mux.HandleFunc("GET /stats/summary", s.summary)
	mux.Handle("GET /logs/", http.StripPrefix("/logs/", http.FileServer(http.Dir(s.c.LogDir))))
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.containerLogs)
	for _, path := range []string{"{namespace}/{pod}/{container}", "{namespace}/{pod}/{uid}/{container}"} {
		mux.HandleFunc("GET /exec/"+path, s.exec)
		mux.HandleFunc("POST /exec/"+path, s.exec)
		mux.HandleFunc("GET /attach/"+path, s.attach)
		mux.HandleFunc("POST /attach/"+path, s.attach)
		mux.HandleFunc("POST /run/"+path, s.run)
	}
	for _, path := range []string{"{namespace}/{pod}", "{namespace}/{pod}/{uid}"} {
		mux.HandleFunc("GET /portForward/"+path, s.portForward)
		mux.HandleFunc("POST /portForward/"+path, s.portForward)
	}
	return mux
}

// authorized lets in only the clients whose verified certificate has one of the names of the configuration.
func (s *Server) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		name := r.TLS.PeerCertificates[0].Subject.CommonName
		if !slices.Contains(s.c.Clients, name) {
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource=proxy)", name, r.Method), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) listPods(w http.ResponseWriter, r *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for _, p := range s.c.Pods.Pods() {
		list.Items = append(list.Items, *p)
	}
	writeJSON(r.Context(), w, list)
}

func (s *Server) configz(w http.ResponseWriter, r *http.Request) {
	writeJSON(r.Context(), w, map[string]any{"kubeletconfig": s.c.Settings})
}

func writeJSON(ctx context.Context, w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		klog.FromContext(ctx).V(3).Info("Could not write an answer", "err", err)
	}
}
