// Package scheduler finds each Pod a node.
//
//	watch ──▶ cache (nodes, Pods on them) ──▶ snapshot ─┐
//	  └─────▶ queue (Pods that wait) ──────────────────▶ decision ──▶ assume ──▶ bind (beside)
//	             ▲                                        │
//	             └── no node: message, condition, event ◀─┘
//
// Decisions are made one after the other, each on a snapshot of the cluster in which every earlier decision
// already counts; what is slow, the binding, is done beside. A Pod that fits nowhere waits until something
// happens that one of the plugins that refused it has named.
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
	"k8s.io/utils/clock"

	podcache "podium.dev/podium/internal/scheduler/cache"
	"podium.dev/podium/internal/scheduler/election"
	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/profile"
	"podium.dev/podium/internal/scheduler/queue"
)

// bindingsAtOnce bounds the bindings, statusesAtOnce the status writes, that are under way.
const (
	bindingsAtOnce = 64
	statusesAtOnce = 16
)

// Scheduler finds Pods their nodes. Make one with New.
type Scheduler struct {
	client    kubernetes.Interface
	clock     clock.Clock
	invalid   error // of the options; Run answers with it
	profiles  map[string]*profile.Profile
	first     *profile.Profile
	nominated *queue.Nominated
	cache     *podcache.Cache
	queue     *queue.Queue
	snapshot  *framework.Snapshot // the decisions' own
	sources   *sources
	recorder  events.EventRecorder
	statuses  *statuses
	bindings  chan struct{}
	beside    sync.WaitGroup // bindings and preemptions under way

	options Options
	// bindingTime bounds a binding; 0 does not.
	bindingTime time.Duration
}

// New makes a scheduler that reads and writes through the client, on which no rate limit should be.
func New(client kubernetes.Interface, options Options) *Scheduler {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	s := &Scheduler{
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

// profileOf answers with the profile that decides on the Pod, nil when the Pod is another scheduler's.
func (s *Scheduler) profileOf(pod *corev1.Pod) *profile.Profile {
	return s.profiles[pod.Spec.SchedulerName]
}

// Run schedules until ctx ends and everything under way has ended too. The error says what of the options
// is wrong.
func (s *Scheduler) Run(ctx context.Context) error {
	if s.invalid != nil {
		return fmt.Errorf("run the scheduler: %w", s.invalid)
	}
	if s.options.Election == nil {
		return s.schedule(ctx)
	}
	config := *s.options.Election
	config.Client, config.Clock = s.client, s.clock
	// Each turn begins with nothing known and reads the cluster anew: what a watch has shown so far may be
	// older than the last thing that the leader before has done.
	return election.Run(ctx, config, func(ctx context.Context) error {
		leader := New(s.client, s.options)
		leader.bindingTime = config.Margin()
		return leader.schedule(ctx)
	})
}

// schedule decides on Pods until ctx ends, and returns when what is under way has ended.
func (s *Scheduler) schedule(ctx context.Context) error {
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: s.client.EventsV1()})
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return fmt.Errorf("run the scheduler: start the recording of events: %w", err)
	}
	s.recorder = broadcaster.NewRecorder(scheme.Scheme, corev1.DefaultSchedulerName)

	s.handleEvents()
	s.sources.start(ctx)
	defer s.sources.wait()
	if !cache.WaitForCacheSync(ctx.Done(), s.sources.synced()...) {
		return nil
	}
	defer s.statuses.wait()
	defer s.beside.Wait()
	for {
		item := s.queue.Pop(ctx)
		if item == nil {
			return nil
		}
		s.decide(ctx, item)
	}
}
