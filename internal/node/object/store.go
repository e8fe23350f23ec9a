// Package object holds the ConfigMaps, Secrets, Services and service-account tokens that the Pods of this node
// refer to, and nothing else: one watch an object, shared by the Pods that name it, ended with the last of them.
package object

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// Kinds as OnChange names them.
const (
	KindConfigMap = "ConfigMap"
	KindSecret    = "Secret"
	KindService   = "Service"
)

// Config is what a Store is made from.
type Config struct {
	// Client talks to the API server as this node. A nil Client is a node that runs by itself: nothing but
	// what static Pods need exists.
	Client kubernetes.Interface
	// Clock is the time; nil is the real one.
	Clock clock.WithTicker
}

// Store answers for the objects of registered Pods. It is safe for use from several goroutines.
type Store struct {
	cfg Config
}

// NewStore makes a Store that watches nothing yet.
func NewStore(cfg Config) *Store { return &Store{cfg: cfg} }

var errUnbuilt = errors.New("object store: not built yet")

// OnChange adds a function that is told of each registered object that appeared, changed or went away.
// It is called on the watch's goroutine and must not block.
func (s *Store) OnChange(f func(kind, namespace, name string)) {}

// Register begins to watch what the Pod refers to. Called again for a Pod it keeps what is still referred to
// and lets go of the rest. It does not block.
func (s *Store) Register(pod *v1.Pod) {}

// Unregister lets go of what the Pod referred to; of an unknown Pod it is no error.
func (s *Store) Unregister(uid types.UID) {}

// ConfigMap answers with a ConfigMap that a registered Pod refers to; it waits for the first answer of the
// API server. The object must not be changed.
func (s *Store) ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error) {
	return nil, errUnbuilt
}

// Secret answers with a Secret as ConfigMap does.
func (s *Store) Secret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	return nil, errUnbuilt
}

// Services answers with the Services whose environment variables a Pod of the namespace gets: the
// namespace's own when links is true, and default/kubernetes always.
func (s *Store) Services(ctx context.Context, namespace string, links bool) ([]*v1.Service, error) {
	return nil, errUnbuilt
}

// Token answers with a service-account token bound to the Pod, from the cache while it is young.
func (s *Store) Token(ctx context.Context, pod *v1.Pod, src *v1.ServiceAccountTokenProjection) (string, error) {
	return "", errUnbuilt
}

// Run keeps the Store until ctx ends, and then ends all its watches.
func (s *Store) Run(ctx context.Context) { <-ctx.Done() }
