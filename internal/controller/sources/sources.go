// Package sources provides the controllers' shared informers.
//
// An informer exists only if a controller requests it, each kind is watched once for all controllers, and
// fields that no controller reads are dropped before the object is stored, so that a daemon without Pods stays
// small.
package sources

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	coordinformers "k8s.io/client-go/informers/coordination/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// PodsByNode is the index of Pods by the node that they are bound to.
const PodsByNode = "node"

// Sources creates informers on demand. Request all informers before calling Start.
type Sources struct {
	client kubernetes.Interface
	main   informers.SharedInformerFactory
	// narrow holds the factories whose lists and watches select some objects of a kind.
	narrow map[string]informers.SharedInformerFactory
	pods   coreinformers.PodInformer
}

// New returns sources that read through the client.
func New(client kubernetes.Interface) *Sources {
	return &Sources{
		client: client,
		main:   informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim)),
		narrow: map[string]informers.SharedInformerFactory{},
	}
}

// All returns the factory of the informers that see every object of their kind.
func (s *Sources) All() informers.SharedInformerFactory { return s.main }

// Pods returns the informer of Pods, which trim reduces, indexed by PodsByNode and by namespace.
func (s *Sources) Pods() coreinformers.PodInformer {
	if s.pods == nil {
		s.pods = s.main.Core().V1().Pods()
		// AddIndexers fails only for an informer that was started.
		_ = s.pods.Informer().AddIndexers(cache.Indexers{PodsByNode: byNode})
	}
	return s.pods
}

// Nodes returns the informer of nodes, without their images.
func (s *Sources) Nodes() coreinformers.NodeInformer { return s.main.Core().V1().Nodes() }

// Namespaces returns the informer of namespaces.
func (s *Sources) Namespaces() coreinformers.NamespaceInformer {
	return s.main.Core().V1().Namespaces()
}

// ServiceAccountsNamed returns the informer of the service accounts with a given name in all namespaces.
func (s *Sources) ServiceAccountsNamed(name string) coreinformers.ServiceAccountInformer {
	return s.factory("serviceaccount/"+name, metav1.NamespaceAll, named(name)).Core().V1().ServiceAccounts()
}

// ConfigMapsNamed returns the informer of the ConfigMaps with a given name in all namespaces.
func (s *Sources) ConfigMapsNamed(name string) coreinformers.ConfigMapInformer {
	return s.factory("configmap/"+name, metav1.NamespaceAll, named(name)).Core().V1().ConfigMaps()
}

// NodeLeases returns the informer of the leases that the nodes renew.
func (s *Sources) NodeLeases() coordinformers.LeaseInformer {
	return s.factory("leases", corev1.NamespaceNodeLease, nil).Coordination().V1().Leases()
}

func (s *Sources) factory(key, namespace string, tweak func(*metav1.ListOptions)) informers.SharedInformerFactory {
	f, ok := s.narrow[key]
	if !ok {
		f = informers.NewSharedInformerFactoryWithOptions(s.client, 0, informers.WithTransform(trim),
			informers.WithNamespace(namespace), informers.WithTweakListOptions(tweak))
		s.narrow[key] = f
	}
	return f
}

func named(name string) func(*metav1.ListOptions) {
	return func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
	}
}

// Start starts the requested informers.
func (s *Sources) Start(ctx context.Context) {
	s.main.Start(ctx.Done())
	for _, f := range s.narrow {
		f.Start(ctx.Done())
	}
}

// Wait waits until the informers' goroutines have ended. The context passed to Start must end first.
func (s *Sources) Wait() {
	s.main.Shutdown()
	for _, f := range s.narrow {
		f.Shutdown()
	}
}

func byNode(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return nil, nil
	}
	return []string{pod.Spec.NodeName}, nil
}
