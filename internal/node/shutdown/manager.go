// Package shutdown ends the node's Pods in order when the machine is shut down: systemd-logind says so beforehand and
// waits, for as long as the settings give the Pods. Without such settings, and on a machine without logind, it does
// nothing.
//
//	           PrepareForShutdown(true)            all periods over
//	delaying ──────────────────────────▶ ending ─────────────────────▶ released ──▶ the machine goes down
//	    ▲                                                                  │
//	    └──────────────── PrepareForShutdown(false): called off ───────────┘
package shutdown

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/node/pod"
)

// The words of Pods that end with the machine, and of those that come too late: the kubelet's.
const (
	reason   = "Terminated"
	message  = "Pod was terminated in response to imminent node shutdown."
	refused  = "NodeShutdown"
	tooLate  = "Pod was rejected as the node is shutting down."
	NotReady = "node is shutting down"
)

// Pods are the node's.
type Pods interface {
	// Active are those that have not ended.
	Active() []*v1.Pod
	// Evict ends one. The channel is closed when it has ended; nil for one that is gone.
	Evict(uid types.UID, why pod.Verdict) <-chan struct{}
}

// Config is what a Manager is made of.
type Config struct {
	// Periods are how long Pods of which priority have; none turns all of this off.
	Periods  []Period
	Pods     Pods
	Recorder record.EventRecorder
	// Node names the node in events; OnChange is called when Admit and Down answer otherwise.
	Node     func() *v1.ObjectReference
	OnChange func()
	Clock    clock.Clock
	// Bus connects to the system's D-Bus, nil for the real one. LogindDir is logind's folder of settings, empty for the
	// real one.
	Bus       func() (*dbus.Conn, error)
	LogindDir string
}

// Manager waits for shutdowns.
type Manager struct {
	c Config

	mu   sync.Mutex
	down bool
}

// New makes a Manager; nothing happens before Run.
func New(c Config) *Manager {
	if c.Bus == nil {
		c.Bus = func() (*dbus.Conn, error) { return dbus.ConnectSystemBus() }
	}
	if c.LogindDir == "" {
		c.LogindDir = "/etc/systemd/logind.conf.d"
	}
	return &Manager{c: c}
}

// Down reports whether the machine is shutting down.
func (m *Manager) Down() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down
}

// Admit answers why the node takes no new Pod now, nil when it does.
func (m *Manager) Admit(*v1.Pod, []*v1.Pod) *pod.Verdict {
	if !m.Down() {
		return nil
	}
	return &pod.Verdict{Reason: refused, Message: tooLate}
}

// reconnect is how long after a lost connection the next is tried.
const reconnect = time.Second

// Run waits for shutdowns and ends the Pods at each, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	if len(m.c.Periods) == 0 {
		return
	}
	log := klog.FromContext(ctx)
	defer os.Remove(filepath.Join(m.c.LogindDir, settingsFile))
	for ctx.Err() == nil {
		err := m.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errNoLogind):
			log.Info("Pods are not given time at a shutdown of the machine", "why", err.Error())
			return
		}
		log.Error(err, "Could not watch for shutdowns of the machine, trying again")
		select {
		case <-ctx.Done():
		case <-m.c.Clock.After(reconnect):
		}
	}
}

// watch does it over one connection, and returns why that has ended.
func (m *Manager) watch(ctx context.Context) error {
	l, err := dial(ctx, m.c.Bus)
	if err != nil {
		return err
	}
	defer l.close()
	allowed, err := l.delay()
	if err != nil {
		return err
	}
	if want := total(m.c.Periods); want > allowed {
		if err := l.prolong(ctx, want, m.c.LogindDir, m.c.Clock); err != nil {
			klog.FromContext(ctx).Error(err, "Pods have less time at a shutdown of the machine than the settings give them", "wanted", want, "allowed", allowed)
		}
	}
	if err := l.inhibit(ctx); err != nil {
		return err
	}
	for {
		begins, err := l.next(ctx)
		if err != nil {
			return err
		}
		m.set(begins)
		if begins {
			m.c.Recorder.Event(m.c.Node(), v1.EventTypeNormal, refused, "Shutdown manager detected shutdown event")
			m.end(ctx)
			l.release()
			continue
		}
		m.c.Recorder.Event(m.c.Node(), v1.EventTypeNormal, refused, "Shutdown manager detected shutdown cancellation")
		if err := l.inhibit(ctx); err != nil {
			return err
		}
	}
}

func (m *Manager) set(down bool) {
	m.mu.Lock()
	m.down = down
	m.mu.Unlock()
	m.c.OnChange()
}

// end ends the Pods, those of the lowest priority first. It goes on to the next priority when all have ended or their
// time is over.
func (m *Manager) end(ctx context.Context) {
	for i, pods := range group(m.c.Periods, m.c.Pods.Active()) {
		if len(pods) == 0 {
			continue
		}
		period := m.c.Periods[i]
		klog.FromContext(ctx).Info("The machine is shutting down, ending Pods", "priority", period.Priority, "pods", len(pods), "within", period.Grace)
		grace := int64(period.Grace / time.Second)
		over := m.c.Clock.NewTimer(period.Grace)
		var ends []<-chan struct{}
		for _, p := range pods {
			if end := m.c.Pods.Evict(p.UID, verdict(grace)); end != nil {
				ends = append(ends, end)
			}
		}
		await(ctx, ends, over.C())
		over.Stop()
	}
}

// verdict ends a Pod within so many seconds, or its own grace period when that is shorter.
func verdict(grace int64) pod.Verdict {
	return pod.Verdict{
		Reason: reason, Message: message, Grace: &grace,
		DisruptionReason: v1.PodReasonTerminationByKubelet, Disruption: message,
	}
}

// await waits for all ends, for the time to be over, or for ctx.
func await(ctx context.Context, ends []<-chan struct{}, over <-chan time.Time) {
	for _, end := range ends {
		select {
		case <-end:
		case <-over:
			return
		case <-ctx.Done():
			return
		}
	}
}
