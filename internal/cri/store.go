package cri

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/shim"
)

// sandbox is a Pod sandbox that exists.
type sandbox struct {
	sandboxRecord                              // does not change
	config        *runtimeapi.PodSandboxConfig // does not change

	// op is held by who changes the sandbox: stop and remove. It is taken before the op of a container in it.
	op sync.Mutex

	mu    sync.Mutex
	state sandboxState
	shim  shim.Shim // nil when there is none
	// halting is set by who ends the shim: that it is gone then is no news.
	halting bool
	// removed is set by a removal that is under way: no container may come into the sandbox any more.
	removed bool
	// half are containers whose creation failed and of which something is left.
	half []*container
}

// container is a container that exists.
type container struct {
	containerRecord                             // does not change
	config          *runtimeapi.ContainerConfig // does not change
	sandbox         *sandbox

	// op is held by who changes the container: start, remove.
	op sync.Mutex

	mu      sync.Mutex
	state   containerState
	ended   chan struct{} // closed when the container has exited
	cleared chan struct{} // closed when then nothing is left in its cgroup, or it could not be cleared
	// earlyExit is its end when the news of it came earlier than its start.
	earlyExit *shim.Exit
}

// get copies the state.
func (s *sandbox) get() sandboxState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// live returns the shim of a sandbox that is ready.
func (s *sandbox) live() (shim.Shim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.Ready || s.shim == nil {
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox %s is not ready", s.ID)
	}
	return s.shim, nil
}

func (c *container) get() containerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// store is all that exists, by ID.
type store struct {
	mu         sync.RWMutex
	sandboxes  map[string]*sandbox
	containers map[string]*container
}

func newStore() *store {
	return &store{sandboxes: map[string]*sandbox{}, containers: map[string]*container{}}
}

// newID is 64 hexadecimal digits.
func newID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// find looks an ID up, or a beginning of one that only one has.
func find[T any](m map[string]T, what, id string) (T, error) {
	if v, ok := m[id]; ok {
		return v, nil
	}
	var found []T
	if id != "" {
		for k, v := range m {
			if strings.HasPrefix(k, id) {
				found = append(found, v)
			}
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var none T
	if len(found) > 1 {
		return none, status.Errorf(codes.InvalidArgument, "%s ID %q is the beginning of %d IDs", what, id, len(found))
	}
	return none, status.Errorf(codes.NotFound, "%s %q: not found", what, id)
}

func (s *store) sandbox(id string) (*sandbox, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return find(s.sandboxes, "sandbox", id)
}

func (s *store) container(id string) (*container, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return find(s.containers, "container", id)
}

// sandboxByKey and containerByKey look up what a create names.
func (s *store) sandboxByKey(key string) *sandbox {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sb := range s.sandboxes {
		if sb.Key == key {
			return sb
		}
	}
	return nil
}

func (s *store) containerByKey(key string) *container {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range s.containers {
		if c.Key == key {
			return c
		}
	}
	return nil
}

func (s *store) addSandbox(sb *sandbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sandboxes[sb.ID] = sb
}

func (s *store) addContainer(c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.containers[c.ID] = c
}

func (s *store) dropSandbox(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sandboxes, id)
}

func (s *store) dropContainer(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, id)
}

// allSandboxes are in the order of their creation, as are allContainers and containersOf.
func (s *store) allSandboxes() []*sandbox {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*sandbox, 0, len(s.sandboxes))
	for _, sb := range s.sandboxes {
		out = append(out, sb)
	}
	slices.SortFunc(out, func(a, b *sandbox) int { return byTime(a.CreatedAt, b.CreatedAt, a.ID, b.ID) })
	return out
}

func (s *store) allContainers() []*container { return s.containersOf("") }

// containersOf are a sandbox's containers; those of all for no ID.
func (s *store) containersOf(sandboxID string) []*container {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*container
	for _, c := range s.containers {
		if sandboxID == "" || c.SandboxID == sandboxID {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *container) int { return byTime(a.CreatedAt, b.CreatedAt, a.ID, b.ID) })
	return out
}

func byTime(a, b time.Time, ida, idb string) int {
	if d := a.Compare(b); d != 0 {
		return d
	}
	return strings.Compare(ida, idb)
}

// sandboxKey names a sandbox by what it is for: asked for twice, it is the same.
func sandboxKey(m *runtimeapi.PodSandboxMetadata) string {
	return fmt.Sprintf("%s_%s_%s_%d", m.GetName(), m.GetNamespace(), m.GetUid(), m.GetAttempt())
}

func containerKey(sandboxID string, m *runtimeapi.ContainerMetadata) string {
	return fmt.Sprintf("%s_%s_%d", sandboxID, m.GetName(), m.GetAttempt())
}
