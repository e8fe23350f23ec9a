// Package apiserver serves the Kubernetes API: k8s.io/apiserver's generic server, configured, with the kinds
// of internal/registry on it.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/apiserver/intake"
	"podium.dev/podium/internal/apiserver/metricsapi"
	"podium.dev/podium/internal/apiserver/nodes"
	"podium.dev/podium/internal/apiserver/review"
	"podium.dev/podium/internal/apistore"
	"podium.dev/podium/internal/auth/token"
	"podium.dev/podium/internal/cluster"
	"podium.dev/podium/internal/pki"
	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/store"
)

// drainTime is how long requests that are under way have to end when the server stops.
const drainTime = 5 * time.Second

// minWatch is the least time that a watch lives; the server ends each after one to two times as long.
const minWatch = 30 * time.Minute

// Config says what to serve, where, and to whom.
type Config struct {
	// Bind is the HOST:PORT to listen at; port 0 takes a free one.
	Bind string
	// Advertise is the address that Pods and nodes reach the server at. Nil: that of Bind, or of the
	// default route when Bind has none.
	Advertise net.IP
	// ServiceRange is the range of the Services' cluster IPs, cluster.ServiceRange by default. Its first address is that
	// of the Service kubernetes.
	ServiceRange netip.Prefix
	// MaxTokenLife is the longest life of a service-account token; 0 is token.DefaultMaxLife.
	MaxTokenLife time.Duration
	// SANs are further names and addresses in the server's certificate.
	SANs []string

	PKI    *pki.Authority
	Store  *store.Store
	Groups []kit.Group
}

// Server serves the API. New makes it, Run runs it, and Ready tells when it can be used:
//
//	New ──▶ listening, not serving ──Run──▶ serving ──▶ Ready ──ctx ends──▶ drained, Run returns
type Server struct {
	scheme     *runtime.Scheme
	codecs     serializer.CodecFactory
	parameters runtime.ParameterCodec
	types      managedfields.TypeConverter

	config   *genericapiserver.Config
	generic  *genericapiserver.GenericAPIServer
	security *security
	pki      *pki.Authority
	storages *storages
	stores   map[schema.GroupResource]*genericregistry.Store

	// ctx is what the followers of the stores live by; stop ends it.
	ctx  context.Context
	stop context.CancelFunc

	pieces []piece
	url    string
	ready  chan struct{}
}

var gates sync.Once

// setGates turns off what would cost memory or time here and bring nothing: copies of caches for old exact
// versions (etcd has those), and the comparison of each cache with etcd.
func setGates() (err error) {
	gates.Do(func() {
		err = utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{
			"ListFromCacheSnapshot":     false,
			"DetectCacheInconsistency":  false,
			"SizeBasedListCostEstimate": false,
		})
	})
	return err
}

// New makes a server that listens, but does not serve before Run.
func New(ctx context.Context, cfg Config) (_ *Server, err error) {
	if err := setGates(); err != nil {
		return nil, fmt.Errorf("set the feature gates: %w", err)
	}
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Server{pki: cfg.PKI, stores: map[schema.GroupResource]*genericregistry.Store{}, ready: make(chan struct{})}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	groups := slices.Concat(cfg.Groups, review.Groups(), []kit.Group{metricsapi.Group()})
	if s.scheme, err = newScheme(groups); err != nil {
		return nil, err
	}
	s.codecs = serializer.NewCodecFactory(s.scheme,
		serializer.WithStreamingCollectionEncodingToJSON(), serializer.WithStreamingCollectionEncodingToProtobuf())
	s.parameters = runtime.NewParameterCodec(s.scheme)
	s.types = newTypeConverter(s.scheme)
	s.storages = newStorages(cfg.Store.Client(), s.scheme, s.codecs, groups)
	defer func() {
		if err != nil {
			s.stop()
			s.storages.stop()
			if s.config != nil && s.config.SecureServing != nil {
				err = errors.Join(err, s.config.SecureServing.Listener.Close())
			}
		}
	}()
	if err := s.configure(cfg); err != nil {
		return nil, err
	}
	all, err := s.build(cfg)
	if err != nil {
		return nil, err
	}
	s.generic, err = s.config.Complete(nil).New("podium", genericapiserver.NewEmptyDelegateWithCustomHandler(http.NotFoundHandler()))
	if err != nil {
		return nil, fmt.Errorf("make the API server: %w", err)
	}
	s.generic.ShutdownTimeout = drainTime
	if err := errors.Join(s.install(all, groups), s.installOpenAPI(), s.installDiscovery(cfg)); err != nil {
		return nil, err
	}
	return s, s.followStores(s.ctx)
}

func (cfg *Config) complete() error {
	host, _, err := net.SplitHostPort(cfg.Bind)
	if err != nil {
		return fmt.Errorf("the address to listen at, %q, is not HOST:PORT: %w", cfg.Bind, err)
	}
	if cfg.Advertise == nil {
		if cfg.Advertise = net.ParseIP(host); cfg.Advertise == nil || cfg.Advertise.IsUnspecified() {
			cfg.Advertise = defaultIP()
		}
	}
	if cfg.MaxTokenLife == 0 {
		cfg.MaxTokenLife = token.DefaultMaxLife
	}
	if !cfg.ServiceRange.IsValid() {
		cfg.ServiceRange = cluster.ServiceRange
	}
	return err
}

// defaultIP is the address of this machine on the way to others, or loopback when there is no way.
func defaultIP() net.IP {
	// Connecting a UDP socket sends nothing: it only asks the routes.
	c, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return net.IPv4(127, 0, 0, 1)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP
}

// configure fills in the generic server's configuration.
func (s *Server) configure(cfg Config) error {
	c := genericapiserver.NewConfig(s.codecs)
	s.config = c
	secure, err := serving(cfg)
	if err != nil {
		return err
	}
	c.SecureServing = secure
	_, port, err := secure.HostPort()
	if err != nil {
		return err
	}
	s.pieces = bootstrapObjects(cfg.Advertise, int32(port), cfg.ServiceRange)
	s.url = "https://" + net.JoinHostPort(reachable(cfg.Bind), strconv.Itoa(port))
	c.LoopbackClientConfig, err = cfg.PKI.ClientConfig(loopback, s.url)
	if err != nil {
		return err
	}
	health, ready := etcdChecks(cfg.Store.Client())
	c.AddHealthChecks(health)
	c.AddReadyzChecks(ready)
	c.PublicAddress = cfg.Advertise
	c.EffectiveVersion = newEffectiveVersion()
	c.RESTOptionsGetter = s.storages
	c.SkipOpenAPIInstallation = true
	c.ShutdownWatchTerminationGracePeriod = drainTime
	c.MinRequestTimeout = int(minWatch / time.Second)
	c.LongRunningFunc = genericfilters.BasicLongRunningRequestCheck(
		sets.NewString("watch", "proxy"), sets.NewString("attach", "exec", "proxy", "log", "portforward"))
	// The slots of requests are intake's: one class for the control plane, one for all others.
	c.MaxRequestsInFlight, c.MaxMutatingRequestsInFlight = 0, 0
	c.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
		return intake.WithBodyDeadline(genericapiserver.DefaultBuildHandlerChain(intake.Wrap(handler, intake.Config{
			Serializer: c.Serializer, LongRunning: c.LongRunningFunc, MaxBody: c.MaxRequestBodyBytes,
		}), c))
	}
	return s.secure(cfg)
}

// loopback is the server's own identity as a client of itself.
var loopback = pki.Identity{User: "system:apiserver", Groups: []string{"system:masters"}}

// reachable is the host by which this machine reaches an address that is listened at.
func reachable(bind string) string {
	host, _, _ := net.SplitHostPort(bind)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return host
}

// build makes the stores of all kinds.
func (s *Server) build(cfg Config) (served, error) {
	all := served{}
	connector, err := nodes.NewConnector(s.store, cfg.PKI)
	if err != nil {
		return nil, err
	}
	env := kit.Env{Lookup: s.store, ServiceRange: cfg.ServiceRange, Tokens: s.security.signer, Nodes: connector, Authorizer: s.security.all}
	for k := range kindsOf(cfg.Groups) {
		main, stores, err := k.Storage(env, s.scheme, s.storages)
		if err != nil {
			return nil, err
		}
		s.stores[k.GroupResource()] = main
		for path, store := range stores {
			if err := all.add(k.GVK.GroupVersion(), path, store); err != nil {
				return nil, err
			}
			for _, a := range k.Also {
				if err := all.add(a.GVK.GroupVersion(), path, store); err != nil {
					return nil, err
				}
			}
		}
	}
	for gv, reviews := range review.Storage(review.Config{
		Authenticator: group.NewAuthenticatedGroupAdder(bearertoken.New(s.security.tokens)),
		Audiences:     s.config.Authentication.APIAudiences,
		Authorizer:    s.security.all,
		Rules:         s.security.rules,
	}) {
		for path, store := range reviews {
			if err := all.add(gv, path, store); err != nil {
				return nil, err
			}
		}
	}
	if s.stores[apistore.Core("nodes")] == nil || s.stores[apistore.Core("pods")] == nil {
		return all, nil
	}
	for gv, uses := range metricsapi.Storage(metricsapi.Config{Stores: s.store, Nodes: connector, Clock: clock.RealClock{}}) {
		for path, store := range uses {
			if err := all.add(gv, path, store); err != nil {
				return nil, err
			}
		}
	}
	return all, all.add(schema.GroupVersion{Version: "v1"}, "nodes/proxy", nodes.NewProxy(connector))
}

// store returns the main store of a kind, or nil.
func (s *Server) store(r schema.GroupResource) *genericregistry.Store { return s.stores[r] }

// URL is where this machine reaches the server.
func (s *Server) URL() string { return s.url }

// Ready is closed when the server serves and what a cluster always has is there.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until the context ends, and then drains what is under way.
func (s *Server) Run(ctx context.Context) error {
	defer s.storages.stop()
	defer s.stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := errors.Join(
		s.atStart("podium/bootstrap-objects", cancel, func() error {
			err := s.furnish(s.ctx, s.pieces)
			if err == nil {
				close(s.ready)
			}
			return err
		}),
		s.atStart("rbac/bootstrap-roles", cancel, s.bootstrapRoles),
	)
	if err != nil {
		return err
	}
	// Whoever in this process is still connected would hold up the end for a second: HTTP/2 waits for so long
	// after it has said goodbye.
	defer context.AfterFunc(ctx, s.pki.CloseConnections)()
	if err := s.generic.PrepareRun().RunWithContext(ctx); err != nil {
		return fmt.Errorf("serve the API at %s: %w", s.url, err)
	}
	var failed startError
	if errors.As(context.Cause(ctx), &failed) {
		return fmt.Errorf("serve the API at %s: %w", s.url, failed)
	}
	return nil
}

// startError is what ends the server when something that it does at start fails.
type startError struct{ error }

func (e startError) Unwrap() error { return e.error }

// atStart has f called once the server serves; /readyz names it. The generic server would end the whole
// process when it fails; this ends the server with its error.
func (s *Server) atStart(name string, end context.CancelCauseFunc, f func() error) error {
	return s.generic.AddPostStartHook(name, func(genericapiserver.PostStartHookContext) error {
		if err := f(); err != nil && s.ctx.Err() == nil {
			end(startError{err})
		}
		return nil
	})
}
