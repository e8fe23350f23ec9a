// Package volume makes the volumes of this node's Pods on the host, keeps them as their sources change, and
// takes them away.
package volume

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/node/object"
	"podium.dev/podium/internal/paths"
)

// Config is what a Manager is made from.
type Config struct {
	NodeName string
	// Allocatable is what the node has for Pods: the default of resourceFieldRef limits and the bound of
	// memory-backed volumes.
	Allocatable func() v1.ResourceList
	HostIPs     func() []string
	Paths       paths.Paths
	Objects     *object.Store
	// Client reads PersistentVolumeClaims and PersistentVolumes; nil on a node that runs by itself.
	Client kubernetes.Interface
	// Clock is the time; nil is the real one.
	Clock clock.WithTicker
}

// Manager has the volumes of all Pods of the node. It is safe for use from several goroutines; calls for one
// Pod run one after the other.
type Manager struct{ cfg Config }

// NewManager makes a Manager; nothing is touched before its first call.
func NewManager(cfg Config) *Manager { return &Manager{cfg: cfg} }

var errUnbuilt = errors.New("volume manager: not built yet")

// Run refreshes volumes as their objects change, until ctx ends.
func (m *Manager) Run(ctx context.Context) { <-ctx.Done() }

// SetUp makes every volume of the Pod. It is idempotent: what is there is brought up to date. The error says
// what FailedMount says.
func (m *Manager) SetUp(ctx context.Context, pod *v1.Pod) error { return errUnbuilt }

// TearDown unmounts and removes every volume of the Pod. It is idempotent and needs no SetUp before it.
func (m *Manager) TearDown(ctx context.Context, uid types.UID) error { return errUnbuilt }

// HostPath answers where a volume of the Pod is on the host.
func (m *Manager) HostPath(pod *v1.Pod, volume string) (string, error) { return "", errUnbuilt }

// Reconcile tears down the volumes of Pods that are not in keep: what an earlier run of the node left.
func (m *Manager) Reconcile(ctx context.Context, keep map[types.UID]bool) error { return errUnbuilt }
