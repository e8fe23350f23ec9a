// Package scheduler assigns Pods to nodes.
//
//	watch ──▶ cache (nodes, Pods on them) ──▶ snapshot ─┐
//	  └─────▶ queue (waiting Pods) ────────────────────▶ decision ──▶ assume ──▶ bind (in the background)
//	             ▲                                        │
//	             └── no node: message, condition, event ◀─┘
//
// Decisions are made one after the other, each on a snapshot of the cluster that includes every earlier
// decision. Binding is slow and runs in the background. A Pod that fits no node waits for an event that one of
// the plugins that refused it has named.
package scheduler

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	podcache "podium.dev/podium/internal/scheduler/cache"
	"podium.dev/podium/internal/scheduler/election"
	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/profile"
	"podium.dev/podium/internal/scheduler/queue"
)

// bindingsAtOnce bounds the bindings in progress, statusesAtOnce the status writes in progress.
const (
	bindingsAtOnce = 64
	statusesAtOnce = 16
)

// Scheduler assigns Pods to nodes. Create one with New.
type Scheduler struct {
	logger     klog.Logger // that of the context of Run
	client     kubernetes.Interface
	clock      clock.Clock
	invalid    error // the options' error; Run returns it
	profiles   map[string]*profile.Profile
	first      *profile.Profile
	nominated  *queue.Nominated
	cache      *podcache.Cache
	queue      *queue.Queue
	snapshot   *framework.Snapshot // used by decisions only
	sources    *sources
	recorder   events.EventRecorder
	statuses   *statuses
	bindings   chan struct{}
	background sync.WaitGroup // bindings and preemptions in progress

	options Options
	// bindingTime bounds a binding. 0 means no bound.
	bindingTime time.Duration
}

// New returns a scheduler that reads and writes through the client. The client should have no rate limit.
func New(client kubernetes.Interface, options Options) *Scheduler {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	s := &Scheduler{
		logger: klog.Background(),
		client: client, clock: options.Clock,
		profiles:  map[string]*profile.Profile{},
		nominated: queue.NewNominated(),
		cache:     podcache.New(),
		snapshot:  framework.NewSnapshot(),
		sources:   newSources(client),
		statuses:  newStatuses(client, options.Clock, statusesAtOnce),
		bindings:  make(chan struct{}, bindingsAtOnce),
		options:   options,
	}
	s.invalid = s.buildProfiles(options)
	s.queue = queue.New(queue.Config{
		Clock: options.Clock, InitialBackoff: options.InitialBackoff, MaxBackoff: options.MaxBackoff,
		Less: func(a, b framework.Waiting) bool { return s.first.Less(a, b) },
		Gate: func(p *framework.PodInfo) *framework.Status { return s.profileOf(p.Pod).Gate(p) },
	})
	return s
}

// profileOf returns the profile that decides on the Pod, or nil if the Pod belongs to another scheduler.
func (s *Scheduler) profileOf(pod *corev1.Pod) *profile.Profile {
	return s.profiles[pod.Spec.SchedulerName]
}

// Run schedules until ctx ends and everything in progress has ended too. It returns an error if the options are
// invalid.
func (s *Scheduler) Run(ctx context.Context) error {
	if s.invalid != nil {
		return fmt.Errorf("run the scheduler: %w", s.invalid)
	}
	if s.options.Election == nil {
		return s.schedule(ctx)
	}
	config := *s.options.Election
	config.Client, config.Clock = s.client, s.clock
	// Each term starts from scratch and reads the cluster again: what a watch has shown so far may be older
	// than the last action of the previous leader.
	return election.Run(ctx, config, func(ctx context.Context) error {
		leader := New(s.client, s.options)
		leader.bindingTime = config.Margin()
		return leader.schedule(ctx)
	})
}

// schedule decides on Pods until ctx ends. It returns when everything in progress has ended.
func (s *Scheduler) schedule(ctx context.Context) error {
	s.logger = klog.FromContext(ctx)
	s.statuses.logger = s.logger
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: s.client.EventsV1()})
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return fmt.Errorf("run the scheduler: start recording events: %w", err)
	}
	s.recorder = broadcaster.NewRecorder(scheme.Scheme, corev1.DefaultSchedulerName)

	s.registerHandlers()
	s.sources.start(ctx)
	defer s.sources.wait()
	if !cache.WaitForCacheSync(ctx.Done(), s.sources.synced()...) {
		return nil
	}
	defer s.statuses.wait()
	defer s.background.Wait()
	for {
		item := s.queue.Pop(ctx)
		if item == nil {
			return nil
		}
		s.decide(ctx, item)
	}
}
