// Package controller runs the control loops that keep a cluster's objects consistent with each other: what a
// namespace must have, what must go when its owner, node or namespace goes, what a node's silence means.
//
// Each loop is a folder of its own below this one, and talks to the API server like any other client.
package controller

import (
	"context"
	"errors"
	"fmt"
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

	"podium.dev/podium/internal/controller/disruption"
	"podium.dev/podium/internal/controller/endpoints"
	"podium.dev/podium/internal/controller/garbagecollector"
	"podium.dev/podium/internal/controller/namespace"
	"podium.dev/podium/internal/controller/nodelifecycle"
	"podium.dev/podium/internal/controller/podgc"
	"podium.dev/podium/internal/controller/replicas"
	"podium.dev/podium/internal/controller/resourcequota"
	"podium.dev/podium/internal/controller/rootca"
	"podium.dev/podium/internal/controller/serviceaccount"
	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/controller/tainteviction"
	"podium.dev/podium/internal/controller/volumeprotection"
)

// Config is what the controllers need.
type Config struct {
	// REST reaches the API server. It must be set; rate limits in it are lifted.
	REST *rest.Config
	// CA is the bundle, in PEM, by which Pods verify the API server.
	CA []byte
	// TerminatedPodThreshold is how many ended Pods are kept; 0 means 12500, negative keeps all.
	TerminatedPodThreshold int
	// GarbageDelay is the time before the garbage collector begins to watch every kind, which a daemon that
	// is just starting has better use for; 0 means 3 s, negative none.
	GarbageDelay time.Duration
	// Nodes sets how long a node may be silent.
	Nodes nodelifecycle.Config
	// Clock is the real one when nil.
	Clock clock.Clock
}

// runner is a control loop.
type runner interface {
	// Run works until ctx ends and everything it started has ended too.
	Run(ctx context.Context)
}

// garbageDelay is the default of Config.GarbageDelay.
const garbageDelay = 3 * time.Second

// later is a control loop that begins after a time.
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

// Run runs every controller until ctx ends. The error says what could not be set up; what fails later is
// tried again and logged.
func Run(ctx context.Context, cfg Config) error {
	if cfg.REST == nil {
		return errors.New("run the controllers: no way to the API server was given")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.GarbageDelay == 0 {
		cfg.GarbageDelay = garbageDelay
	}
	client, meta, err := clients(cfg.REST)
	if err != nil {
		return fmt.Errorf("run the controllers: %w", err)
	}
	events := record.NewBroadcaster(record.WithContext(ctx))
	defer events.Shutdown()
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	src := sources.New(client)
	all := build(cfg, client, meta, src, events)
	src.Start(ctx)
	defer src.Wait()
	var running sync.WaitGroup
	for _, r := range all {
		running.Go(func() { r.Run(ctx) })
	}
	running.Wait()
	return nil
}

// build puts the controllers together; the informers they ask for are not started yet.
func build(cfg Config, client kubernetes.Interface, meta metadata.Interface, src *sources.Sources, events record.EventBroadcaster) []runner {
	threshold := cfg.TerminatedPodThreshold
	if threshold == 0 {
		threshold = podgc.DefaultThreshold
	}
	recorder := func(component string) record.EventRecorder {
		return events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component})
	}
	namespaces := namespace.New(client, meta, src, cfg.Clock)
	addresses := endpoints.New(client, src, cfg.Clock)
	quotas := resourcequota.New(client, meta, src, cfg.Clock)
	volumes := volumeprotection.New(client, src, cfg.Clock)
	// The collector watches everything, so it can tell the others what comes and goes without a watch of
	// theirs.
	seen := func(resource schema.GroupResource, o metav1.Object, gone bool) {
		volumes.Seen(resource, o, gone)
		if gone {
			quotas.Removed(o.GetNamespace())
			namespaces.Removed(o.GetNamespace())
			addresses.Removed(resource, o)
		}
	}
	return []runner{
		namespaces,
		serviceaccount.New(client, src, cfg.Clock),
		rootca.New(client, src, cfg.Clock, cfg.CA),
		podgc.New(client, src, cfg.Clock, max(threshold, 0)),
		later{garbagecollector.New(client, meta, recorder(garbagecollector.Component), cfg.Clock, seen), cfg.Clock, cfg.GarbageDelay},
		nodelifecycle.New(client, src, recorder(nodelifecycle.Component), cfg.Clock, cfg.Nodes),
		addresses,
		quotas,
		volumes,
		disruption.New(client, src, recorder(disruption.Component), cfg.Clock),
		replicas.New(client, src, recorder(replicas.ReplicaSetComponent), recorder(replicas.ControllerComponent), cfg.Clock),
		tainteviction.New(client, src, recorder(tainteviction.Component), cfg.Clock),
	}
}

// clients makes a client of the built-in kinds, which speaks protobuf, and one of any kind's metadata.
func clients(base *rest.Config) (kubernetes.Interface, metadata.Interface, error) {
	cfg := rest.AddUserAgent(rest.CopyConfig(base), "controllers")
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{} // warnings are for people; who deletes everything meets them all
	typed := rest.CopyConfig(cfg)
	typed.ContentType = runtime.ContentTypeProtobuf
	typed.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client of the API server: %w", err)
	}
	meta, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("make a metadata client of the API server: %w", err)
	}
	return client, meta, nil
}
