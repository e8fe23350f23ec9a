// Package store provides the API server's etcd: one embedded in this process, or an external cluster.
//
// Both are accessed over gRPC by the same client code. The embedded etcd listens only on a unix socket in a
// folder that only root can enter. It has no peers and syncs every write to disk. Compaction (triggered by the
// API server) and defragmentation (done here) keep it small.
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
	// The values with which kube-apiserver detects a dead etcd and bounds a first connection.
	keepAliveTime    = 30 * time.Second
	keepAliveTimeout = 10 * time.Second
	dialTimeout      = 20 * time.Second
)

// Config selects the etcd to use.
type Config struct {
	// Dir is the data folder of the embedded etcd. It is created if it does not exist.
	Dir string
	// Socket is the unix socket that the embedded etcd listens on.
	Socket string
	// Servers are the endpoints of an external etcd (https://HOST:PORT). If there are any, no etcd is embedded,
	// and Dir and Socket are unused.
	Servers []string
	// CAFile, CertFile and KeyFile secure the connection to an external etcd.
	CAFile, CertFile, KeyFile string
}

// Store is a running or reachable etcd with a client.
type Store struct {
	transport storagebackend.TransportConfig
	client    *kubernetes.Client
	embedded  *embedded // nil for an external etcd
}

// Start starts the embedded etcd or connects to the external one, and returns when it responds. ctx bounds the
// start only. Call Close to stop the store.
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

// Transport returns the connection settings of the store, for callers that create their own client. Client is
// cheaper.
func (s *Store) Transport() storagebackend.TransportConfig { return s.transport }

// Client returns a client of the store that all callers may share. Close closes it.
func (s *Store) Client() *kubernetes.Client { return s.client }

// Failed returns a channel that receives the error of an embedded etcd that stopped by itself. It is closed
// when the store is closed. For an external etcd it is nil.
func (s *Store) Failed() <-chan error {
	if s.embedded == nil {
		return nil
	}
	return s.embedded.failed
}

// Close closes the client and stops an embedded etcd. All writes are already on disk.
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
	// An error means that k8s.io/apiserver's own client has registered the same names. Either one will do.
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
		return nil, fmt.Errorf("create a client of etcd at %v: %w", t.ServerList, err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if _, err := client.KV.Get(ctx, "health"); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("connect to etcd at %v: %w; check that it is running and accepts the certificates", t.ServerList, err)
	}
	return client, nil
}
