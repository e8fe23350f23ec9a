// Package store gives the API server its etcd: one embedded in this process, or a cluster elsewhere.
//
// Both are reached over gRPC by the same client code. The embedded one listens on a unix socket only, in a
// folder that nobody else can enter; it has no peers, syncs every write to disk, and is kept small by
// compaction (asked for by the API server) and defragmentation (looked after here).
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/component-base/metrics/legacyregistry"
)

const (
	// Kubernetes' own figures for how soon a dead etcd is noticed and how long a first connection may take.
	keepAliveTime    = 30 * time.Second
	keepAliveTimeout = 10 * time.Second
	dialTimeout      = 20 * time.Second
)

// Config says which etcd to use.
type Config struct {
	// Dir is the data folder of the embedded etcd. It is made when missing.
	Dir string
	// Socket is the unix socket that the embedded etcd listens on.
	Socket string
	// Servers are the endpoints of an external etcd (https://HOST:PORT). When there are any, nothing is
	// embedded and Dir and Socket are not used.
	Servers []string
	// CAFile, CertFile and KeyFile secure the connection to an external etcd.
	CAFile, CertFile, KeyFile string
}

// Store is a running or reachable etcd and one client of it.
type Store struct {
	transport storagebackend.TransportConfig
	client    *kubernetes.Client
	embedded  *embedded // nil for an external etcd
}

// Start starts the embedded etcd, or connects to the external one, and returns when it answers. The context
// bounds the start only; Close ends the store.
func Start(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{transport: storagebackend.TransportConfig{
		ServerList:     cfg.Servers,
		TrustedCAFile:  cfg.CAFile,
		CertFile:       cfg.CertFile,
		KeyFile:        cfg.KeyFile,
		TracerProvider: noop.NewTracerProvider(),
	}}
	if len(cfg.Servers) == 0 {
		e, err := startEmbedded(ctx, cfg.Dir, cfg.Socket)
		if err != nil {
			return nil, err
		}
		s.embedded = e
		s.transport.ServerList = []string{"unix://" + cfg.Socket}
	}
	client, err := newClient(ctx, s.transport)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.client = client
	if s.embedded != nil {
		s.embedded.maintain(client.Client)
	}
	return s, nil
}

// Transport says how to reach the store, for clients of their own. Client is the cheaper way.
func (s *Store) Transport() storagebackend.TransportConfig { return s.transport }

// Client is a client of the store that all may share; Close closes it.
func (s *Store) Client() *kubernetes.Client { return s.client }

// Failed yields the error of an embedded etcd that ended by itself; it is closed when the store was closed.
// For an external etcd nothing is ever sent.
func (s *Store) Failed() <-chan error {
	if s.embedded == nil {
		return nil
	}
	return s.embedded.failed
}

// Close closes the client and stops an embedded etcd, which has all that was written on disk already.
func (s *Store) Close() error {
	var err error
	if s.client != nil {
		if e := s.client.Close(); e != nil && !errors.Is(e, context.Canceled) {
			err = fmt.Errorf("close the client of the store: %w", e)
		}
	}
	if s.embedded != nil {
		s.embedded.close()
	}
	return err
}

// clientMetrics counts the calls to etcd under the names that kube-apiserver uses.
var clientMetrics = grpcprom.NewClientMetrics()

func init() {
	// An error means that k8s.io/apiserver's own client has registered the same names; either will do.
	_ = legacyregistry.Registerer().Register(clientMetrics)
}

func newClient(ctx context.Context, t storagebackend.TransportConfig) (*kubernetes.Client, error) {
	cfg := clientv3.Config{
		Endpoints:            t.ServerList,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		Logger:               zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithChainUnaryInterceptor(clientMetrics.UnaryClientInterceptor()),
			grpc.WithChainStreamInterceptor(clientMetrics.StreamClientInterceptor()),
		},
	}
	if t.TrustedCAFile != "" || t.CertFile != "" || t.KeyFile != "" {
		info := transport.TLSInfo{TrustedCAFile: t.TrustedCAFile, CertFile: t.CertFile, KeyFile: t.KeyFile}
		tlsConfig, err := info.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("read the certificates for etcd %v: %w; check the CA, certificate and key files", t.ServerList, err)
		}
		cfg.TLS = tlsConfig
	}
	client, err := kubernetes.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of etcd at %v: %w", t.ServerList, err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if _, err := client.KV.Get(ctx, "health"); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("reach etcd at %v: %w; is it running, and do the certificates fit?", t.ServerList, err)
	}
	return client, nil
}
