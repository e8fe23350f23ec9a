// Package controller runs the control loops that keep a cluster's objects consistent with each other: the
// objects that every namespace has, what is deleted with an owner, node or namespace, and what follows when a
// node goes silent.
//
// Each loop is a package below this one and uses the API server like any other client.
package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/cluster"
	"podium.dev/podium/internal/controller/cronjob"
	"podium.dev/podium/internal/controller/daemonset"
	"podium.dev/podium/internal/controller/deployment"
	"podium.dev/podium/internal/controller/disruption"
	"podium.dev/podium/internal/controller/endpoints"
	"podium.dev/podium/internal/controller/endpointslicemirroring"
	"podium.dev/podium/internal/controller/garbagecollector"
	"podium.dev/podium/internal/controller/job"
	"podium.dev/podium/internal/controller/loadbalancer"
	"podium.dev/podium/internal/controller/namespace"
	"podium.dev/podium/internal/controller/nodelifecycle"
	"podium.dev/podium/internal/controller/podautoscaler"
	"podium.dev/podium/internal/controller/podgc"
	"podium.dev/podium/internal/controller/replicas"
	"podium.dev/podium/internal/controller/resourcequota"
	"podium.dev/podium/internal/controller/rootca"
	"podium.dev/podium/internal/controller/serviceaccount"
	"podium.dev/podium/internal/controller/servicecidr"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/controller/statefulset"
	"podium.dev/podium/internal/controller/tainteviction"
	"podium.dev/podium/internal/controller/ttlafterfinished"
	"podium.dev/podium/internal/controller/volumeprotection"
)

// Config configures the controllers.
type Config struct {
	// REST is the configuration of the API server's clients. It is required. Its rate limits are removed.
	REST *rest.Config
	// CA is the bundle, in PEM, with which Pods verify the API server.
	CA []byte
	// TerminatedPodThreshold is the number of ended Pods to keep. 0 means 12500; a negative number keeps all.
	TerminatedPodThreshold int
	// GarbageDelay is the time before the garbage collector starts to watch every kind, so that it does not
	// slow down the start of the daemon. 0 means 3 s; a negative value means no delay.
	GarbageDelay time.Duration
	// Nodes configures how long a node may be silent.
	Nodes nodelifecycle.Config
	// ServiceRange is the range of cluster IPs, cluster.ServiceRange by default.
	ServiceRange netip.Prefix
	// LoadBalancer gives Services of the type LoadBalancer the addresses of the nodes.
	LoadBalancer bool
	// Clock defaults to the real clock.
	Clock clock.Clock
}

// runner is a control loop.
type runner interface {
	// Run runs the loop until ctx ends and everything it started has ended too.
	Run(ctx context.Context)
}

// garbageDelay is the default of Config.GarbageDelay.
const garbageDelay = 3 * time.Second

// later is a control loop that starts after a delay.
type later struct {
	runner
	clock clock.Clock
	after time.Duration
}

// Run implements runner.
func (l later) Run(ctx context.Context) {
	t := l.clock.NewTimer(l.after)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C():
		l.runner.Run(ctx)
	}
}

// Run runs every controller until ctx ends. It returns an error if the controllers cannot be set up. Later
// errors are logged and retried.
func Run(ctx context.Context, cfg Config) error {
	if cfg.REST == nil {
		return errors.New("run the controllers: Config.REST is not set")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if !cfg.ServiceRange.IsValid() {
		cfg.ServiceRange = cluster.ServiceRange
	}
	if cfg.GarbageDelay == 0 {
		cfg.GarbageDelay = garbageDelay
	}
	client, meta, err := clients(cfg.REST)
	if err != nil {
		return fmt.Errorf("run the controllers: %w", err)
	}
	scaling, err := podautoscaler.NewClients(cfg.REST)
	if err != nil {
		return fmt.Errorf("run the controllers: %w", err)
	}
	events := record.NewBroadcaster(record.WithContext(ctx))
	defer events.Shutdown()
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	src := sources.New(client)
	all := build(cfg, client, meta, scaling, src, events)
	src.Start(ctx)
	defer src.Wait()
	var running sync.WaitGroup
	for _, r := range all {
		running.Go(func() { r.Run(ctx) })
	}
	running.Wait()
	return nil
}

// build builds the controllers. The informers that they request are not started yet.
func build(cfg Config, client kubernetes.Interface, meta metadata.Interface, scaling *podautoscaler.Clients, src *sources.Sources, events record.EventBroadcaster) []runner {
	threshold := cfg.TerminatedPodThreshold
	if threshold == 0 {
		threshold = podgc.DefaultThreshold
	}
	recorder := func(component string) record.EventRecorder {
		return events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component})
	}
	namespaces := namespace.New(client, meta, src, cfg.Clock)
	addresses := endpoints.New(client, src, recorder(endpoints.Component), recorder(endpoints.SliceComponent), cfg.Clock)
	mirrors := endpointslicemirroring.New(client, src, recorder(endpointslicemirroring.Component), cfg.Clock)
	ranges := servicecidr.New(client, src, recorder(servicecidr.Component), cfg.Clock, cfg.ServiceRange)
	quotas := resourcequota.New(client, meta, src, cfg.Clock)
	volumes := volumeprotection.New(client, src, cfg.Clock)
	// The collector watches everything, so it can notify the other controllers of objects that they do not
	// watch.
	seen := func(resource schema.GroupResource, o metav1.Object, gone bool) {
		volumes.OnSeen(resource, o, gone)
		addresses.OnSeen(resource, o, gone)
		mirrors.OnSeen(resource, o, gone)
		ranges.OnSeen(resource, o, gone)
		if gone {
			quotas.OnRemoved(o.GetNamespace())
			namespaces.OnRemoved(o.GetNamespace())
		}
	}
	all := []runner{
		namespaces,
		serviceaccount.New(client, src, cfg.Clock),
		rootca.New(client, src, cfg.Clock, cfg.CA),
		podgc.New(client, src, cfg.Clock, max(threshold, 0)),
		later{garbagecollector.New(client, meta, recorder(garbagecollector.Component), cfg.Clock, seen), cfg.Clock, cfg.GarbageDelay},
		nodelifecycle.New(client, src, recorder(nodelifecycle.Component), cfg.Clock, cfg.Nodes),
		addresses,
		mirrors,
		ranges,
		quotas,
		volumes,
		disruption.New(client, src, recorder(disruption.Component), cfg.Clock),
		replicas.New(client, src, recorder(replicas.ReplicaSetComponent), recorder(replicas.ControllerComponent), cfg.Clock),
		deployment.New(client, src, recorder(deployment.Component), cfg.Clock),
		statefulset.New(client, src, recorder(statefulset.Component), cfg.Clock),
		daemonset.New(client, src, recorder(daemonset.Component), cfg.Clock),
		job.New(client, src, recorder(job.Component), cfg.Clock),
		cronjob.New(client, src, recorder(cronjob.Component), cfg.Clock),
		ttlafterfinished.New(client, src, cfg.Clock),
		podautoscaler.New(client, scaling, src, recorder(podautoscaler.Component), cfg.Clock),
		tainteviction.New(client, src, recorder(tainteviction.Component), cfg.Clock),
	}
	if cfg.LoadBalancer {
		all = append(all, loadbalancer.New(client, src, recorder(loadbalancer.Component), cfg.Clock))
	}
	return all
}

// clients returns a client of the built-in kinds, which uses protobuf, and a client of the metadata of any
// kind.
func clients(base *rest.Config) (kubernetes.Interface, metadata.Interface, error) {
	cfg := rest.AddUserAgent(rest.CopyConfig(base), "controllers")
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{} // warnings are for people; a client that deletes everything triggers them all
	typed := rest.CopyConfig(cfg)
	typed.ContentType = runtime.ContentTypeProtobuf
	typed.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, nil, fmt.Errorf("create a client of the API server: %w", err)
	}
	meta, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("create a metadata client of the API server: %w", err)
	}
	return client, meta, nil
}
