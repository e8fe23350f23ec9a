// Package probe asks containers whether they live, are ready and have started, as their Pods' probes say.
package probe

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/utils/clock"
)

// Config is what a Manager is made from.
type Config struct {
	// Runtime runs exec probes.
	Runtime internalapi.RuntimeService
	// Recorder gets Unhealthy and ProbeWarning events.
	Recorder record.EventRecorder
	// Clock is the time; nil is the real one.
	Clock clock.WithTicker
	// OnChange is told that an outcome of the Pod changed. It must not block.
	OnChange func(uid types.UID)
}

// Target is a running container whose probes are to run.
type Target struct {
	// Container is its name, ID the runtime's (without a scheme).
	Container, ID string
	// StartedAt is when it started: initialDelaySeconds counts from here.
	StartedAt time.Time
	PodIP     string
}

// Outcome is what the probes of a container say by now. A nil member is a probe that the container does not
// have, or that has not concluded yet.
type Outcome struct {
	Started, Ready, Live *bool
	// Message is why Live or Started is false.
	Message string
}

// Manager runs the probes of all Pods of the node. It is safe for use from several goroutines.
type Manager struct{ cfg Config }

// New makes a Manager that probes nothing yet.
func New(cfg Config) *Manager { return &Manager{cfg: cfg} }

// Sync makes the probes of the Pod those of the running containers: new ones begin, those of containers that
// are not in running end.
func (m *Manager) Sync(pod *v1.Pod, running []Target) {}

// Remove ends all probes of the Pod.
func (m *Manager) Remove(uid types.UID) {}

// Outcomes answers with what is known of the Pod's containers, by container ID.
func (m *Manager) Outcomes(uid types.UID) map[string]Outcome { return nil }
