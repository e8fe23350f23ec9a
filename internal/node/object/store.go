// Package object holds the ConfigMaps, Secrets, Services, trust bundles and service-account tokens that the Pods of this node
// refer to, and nothing else: one watch an object, shared by the Pods that name it, ended with the last of them.
// The ConfigMaps and Secrets of static Pods are not the API's but those in the same folder.
package object

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/podutil"
)

// Kinds as OnChange names them.
const (
	KindConfigMap = "ConfigMap"
	KindSecret    = "Secret"
	KindService   = "Service"
	// KindClusterTrustBundle has no namespace.
	KindClusterTrustBundle = "ClusterTrustBundle"
)

// syncTimeout is how long a caller waits for the first answer of the API server about an object.
const syncTimeout = 10 * time.Second

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
	client kubernetes.Interface
	clock  clock.WithTicker
	tokens *tokenCache

	mu        sync.Mutex
	closed    bool
	pods      map[types.UID]map[key]struct{}
	scopes    map[key]*scope
	local     map[key]runtime.Object
	listeners []func(kind, namespace, name string)
}

// key names what one watch is about: an object, or with no name all of a kind in a namespace. What is local is
// of the folder of static Pods, and not watched here.
type key struct {
	kind, namespace, name string
	local                 bool
}

// NewStore makes a Store that watches nothing yet.
func NewStore(cfg Config) *Store {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	return &Store{
		client: cfg.Client, clock: cfg.Clock, tokens: newTokenCache(cfg.Client, cfg.Clock),
		pods: map[types.UID]map[key]struct{}{}, scopes: map[key]*scope{}, local: map[key]runtime.Object{},
	}
}

// Run keeps the Store until ctx ends, and then ends all its watches.
func (s *Store) Run(ctx context.Context) {
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, sc := range s.scopes {
		sc.cancel()
	}
}

// OnChange adds a function that is told of each registered object that appeared, changed or went away.
// It is called on the watch's goroutine and must not block.
func (s *Store) OnChange(f func(kind, namespace, name string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, f)
}

func (s *Store) notify(kind, namespace, name string) {
	s.mu.Lock()
	listeners := s.listeners
	s.mu.Unlock()
	for _, f := range listeners {
		f(kind, namespace, name)
	}
}

// Register begins to watch what the Pod refers to. Called again for a Pod it keeps what is still referred to
// and lets go of the rest. It does not block.
func (s *Store) Register(pod *v1.Pod) {
	wanted := references(pod)
	s.mu.Lock()
	defer s.mu.Unlock()
	had := s.pods[pod.UID]
	s.pods[pod.UID] = wanted
	for k := range wanted {
		if _, ok := had[k]; !ok {
			s.holdLocked(k)
		}
	}
	for k := range had {
		if _, ok := wanted[k]; !ok {
			s.release(k)
		}
	}
}

// Unregister lets go of what the Pod referred to; of an unknown Pod it is no error.
func (s *Store) Unregister(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.pods[uid] {
		s.release(k)
	}
	delete(s.pods, uid)
	s.tokens.forget(uid)
}

// holdLocked counts one Pod more for a watch, and begins it for the first and, where an immutable object's watch
// has ended, for each. The lock is held.
func (s *Store) holdLocked(k key) {
	if s.client == nil || k.local {
		return
	}
	sc := s.scopes[k]
	if sc == nil {
		sc = newScope(s, k)
		s.scopes[k] = sc
	}
	sc.users++
	if !s.closed {
		sc.start()
	}
}

func (s *Store) release(k key) {
	sc := s.scopes[k]
	if sc == nil {
		return
	}
	if sc.users--; sc.users == 0 {
		sc.cancel()
		delete(s.scopes, k)
	}
}

// Users are the registered Pods that refer to an object.
func (s *Store) Users(kind, namespace, name string) []types.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var users []types.UID
	for uid, keys := range s.pods {
		for k := range keys {
			if k.kind == kind && k.namespace == namespace && (k.name == name || k.name == "") {
				users = append(users, uid)
				break
			}
		}
	}
	return users
}

// ConfigMap returns a ConfigMap that a registered Pod refers to; it waits for the first answer of the
// API server. One that is not there is a NotFound error. The object must not be changed.
func (s *Store) ConfigMap(ctx context.Context, pod *v1.Pod, name string) (*v1.ConfigMap, error) {
	return get[*v1.ConfigMap](ctx, s, keyFor(pod, KindConfigMap, name))
}

// Secret returns a Secret as ConfigMap does.
func (s *Store) Secret(ctx context.Context, pod *v1.Pod, name string) (*v1.Secret, error) {
	return get[*v1.Secret](ctx, s, keyFor(pod, KindSecret, name))
}

// keyFor is the key of a ConfigMap or Secret that a Pod names.
func keyFor(pod *v1.Pod, kind, name string) key {
	return key{kind, pod.Namespace, name, podutil.IsStatic(pod)}
}

// SetLocal says which ConfigMaps and Secrets static Pods have, in place of the earlier ones. It tells of those that
// are new or others; who needs one that went ends, so that nobody has to look for it.
func (s *Store) SetLocal(objects []runtime.Object) {
	now := map[key]runtime.Object{}
	for _, o := range objects {
		switch o := o.(type) {
		case *v1.ConfigMap:
			now[key{KindConfigMap, o.Namespace, o.Name, true}] = o
		case *v1.Secret:
			now[key{KindSecret, o.Namespace, o.Name, true}] = o
		}
	}
	s.mu.Lock()
	had := s.local
	s.local = now
	s.mu.Unlock()
	for k, o := range now {
		if before, ok := had[k]; !ok || !equality.Semantic.DeepEqual(before, o) {
			s.notify(k.kind, k.namespace, k.name)
		}
	}
}

func get[T runtime.Object](ctx context.Context, s *Store, k key) (T, error) {
	var none T
	objects, err := s.read(ctx, k)
	if err != nil {
		return none, err
	}
	object, ok := objects[k.name].(T)
	if !ok {
		return none, apierrors.NewNotFound(schema.GroupResource{Resource: resourceWord[k.kind]}, k.name)
	}
	return object, nil
}

// resourceWord is how messages about a missing object name its kind.
var resourceWord = map[string]string{KindConfigMap: "configmap", KindSecret: "secret", KindService: "service", KindClusterTrustBundle: "clustertrustbundle"}

// Services returns the Services whose environment variables a Pod of the namespace gets: the
// namespace's own when links is true, and default/kubernetes always. The error says that they have not been
// read yet; what is known comes with it.
func (s *Store) Services(ctx context.Context, namespace string, links bool) ([]*v1.Service, error) {
	if s.client == nil {
		return nil, nil
	}
	keys := []key{apiService}
	if links {
		keys = append(keys, key{kind: KindService, namespace: namespace})
	}
	var list []*v1.Service
	var failed []error
	for _, k := range keys {
		objects, err := s.read(ctx, k)
		failed = append(failed, err)
		for _, name := range slices.Sorted(maps.Keys(objects)) {
			list = append(list, objects[name].(*v1.Service))
		}
	}
	return list, errors.Join(failed...)
}

// read returns what a watch knows, when it has been answered at least once.
func (s *Store) read(ctx context.Context, k key) (map[string]runtime.Object, error) {
	if k.local {
		s.mu.Lock()
		defer s.mu.Unlock()
		known := map[string]runtime.Object{}
		if object, ok := s.local[k]; ok {
			known[k.name] = object
		}
		return known, nil
	}
	if s.client == nil {
		return nil, fmt.Errorf("couldn't get %s %v/%v, no kubeClient defined", resourceWord[k.kind], k.namespace, k.name)
	}
	s.mu.Lock()
	sc := s.scopes[k]
	s.mu.Unlock()
	if sc == nil {
		return nil, fmt.Errorf("object %q/%q not registered", k.namespace, k.name)
	}
	return sc.read(ctx)
}

// Token returns a service-account token bound to the Pod, from the cache while it is young.
func (s *Store) Token(ctx context.Context, pod *v1.Pod, src *v1.ServiceAccountTokenProjection) (Token, error) {
	return s.tokens.get(ctx, pod, src)
}
