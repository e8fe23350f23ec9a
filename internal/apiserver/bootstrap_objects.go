package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/apistore"
)

// kubernetesName is the name of the Service, and of what goes with it, by which Pods reach the API server.
const kubernetesName = "kubernetes"

// piece is one object that every cluster has. repair, when there is one, brings an object that is there in
// line with it and reports whether it had to.
type piece struct {
	resource schema.GroupResource
	object   metaObject
	repair   func(have runtime.Object) bool
}

type metaObject interface {
	runtime.Object
	metav1.Object
}

// bootstrapObjects returns the objects that every cluster has from its start: the namespaces, the Service kubernetes with the
// server's own address behind it, the system priority classes.
func bootstrapObjects(advertise net.IP, port int32, services netip.Prefix) []piece {
	var all []piece
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		all = append(all, piece{resource: apistore.Core("namespaces"), object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}})
	}
	classes := schema.GroupResource{Group: schedulingv1.GroupName, Resource: "priorityclasses"}
	for _, c := range []*schedulingv1.PriorityClass{
		{
			ObjectMeta:  metav1.ObjectMeta{Name: "system-node-critical"},
			Value:       2000001000,
			Description: "Used for system critical pods that must not be moved from their current node.",
		},
		{
			ObjectMeta:  metav1.ObjectMeta{Name: "system-cluster-critical"},
			Value:       2000000000,
			Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
		},
	} {
		all = append(all, piece{resource: classes, object: c})
	}
	all = append(all,
		piece{
			resource: schema.GroupResource{Group: networkingv1.GroupName, Resource: "servicecidrs"},
			object: &networkingv1.ServiceCIDR{
				ObjectMeta: metav1.ObjectMeta{Name: kubernetesName},
				Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{services.String()}},
			},
		},
		piece{resource: apistore.Core("services"), object: kubernetesService(port, services)},
	)
	// An address that only this machine knows is none for Pods, and Endpoints must not have it.
	if !advertise.IsLoopback() {
		all = append(all, kubernetesEndpoints(advertise, port), kubernetesSlice(advertise, port))
	}
	return all
}

func kubernetesService(port int32, services netip.Prefix) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: kubernetesName, Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			Type:            corev1.ServiceTypeClusterIP,
			ClusterIP:       services.Addr().Next().String(),
			IPFamilyPolicy:  ptr.To(corev1.IPFamilyPolicySingleStack),
			SessionAffinity: corev1.ServiceAffinityNone,
			Ports: []corev1.ServicePort{{
				Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(port),
			}},
		},
	}
}

func kubernetesEndpoints(advertise net.IP, port int32) piece {
	subsets := []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: advertise.String()}},
		Ports:     []corev1.EndpointPort{{Name: "https", Port: port, Protocol: corev1.ProtocolTCP}},
	}}
	return piece{
		resource: apistore.Core("endpoints"),
		object: &corev1.Endpoints{
			ObjectMeta: metav1.ObjectMeta{
				Name: kubernetesName, Namespace: metav1.NamespaceDefault,
				Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"},
			},
			Subsets: subsets,
		},
		repair: func(have runtime.Object) bool {
			e := have.(*corev1.Endpoints)
			if equality.Semantic.DeepEqual(e.Subsets, subsets) {
				return false
			}
			e.Subsets = subsets
			return true
		},
	}
}

func kubernetesSlice(advertise net.IP, port int32) piece {
	family := discoveryv1.AddressTypeIPv4
	if advertise.To4() == nil {
		family = discoveryv1.AddressTypeIPv6
	}
	endpoints := []discoveryv1.Endpoint{{
		Addresses:  []string{advertise.String()},
		Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
	}}
	ports := []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To(port), Protocol: ptr.To(corev1.ProtocolTCP)}}
	return piece{
		resource: schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"},
		object: &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Name: kubernetesName, Namespace: metav1.NamespaceDefault,
				Labels: map[string]string{discoveryv1.LabelServiceName: kubernetesName},
			},
			AddressType: family, Endpoints: endpoints, Ports: ports,
		},
		repair: func(have runtime.Object) bool {
			s := have.(*discoveryv1.EndpointSlice)
			if equality.Semantic.DeepEqual(s.Endpoints, endpoints) && equality.Semantic.DeepEqual(s.Ports, ports) {
				return false
			}
			s.Endpoints, s.Ports = endpoints, ports
			return true
		},
	}
}

// furnish puts all pieces into the store that are missing, all at once: etcd takes them to disk together.
func (s *Server) furnish(ctx context.Context, all []piece) error {
	faults := make([]error, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		if s.store(p.resource) == nil {
			continue // a server of few kinds, as tests have it
		}
		wg.Go(func() {
			if err := s.ensure(ctx, p); err != nil {
				faults[i] = fmt.Errorf("make %s %s, which every cluster has: %w", p.resource, p.object.GetName(), err)
			}
		})
	}
	wg.Wait()
	return errors.Join(faults...)
}

func (s *Server) ensure(ctx context.Context, p piece) error {
	store := s.store(p.resource)
	ctx = apistore.Context(ctx, p.object.GetNamespace())
	have, err := store.Get(ctx, p.object.GetName(), &metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		s.scheme.Default(p.object)
		_, err = store.Create(ctx, p.object.DeepCopyObject(), rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) { // another server was faster
			return nil
		}
		return err
	}
	if err != nil || p.repair == nil || !p.repair(have) {
		return err
	}
	_, _, err = store.Update(ctx, p.object.GetName(), rest.DefaultUpdatedObjectInfo(have), rest.ValidateAllObjectFunc,
		rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
	return err
}
