// Package servicecidr looks after the ranges of cluster IPs and the addresses in use (KEP-1880): it marks ServiceCIDRs
// as ready, keeps those that are being deleted for as long as Services have addresses of theirs, creates that of the
// configured range again, and repairs IPAddresses that do not match a Service.
//
// It watches only Services, as other controllers do: the garbage collector, which watches everything, notifies it.
package servicecidr

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	applynetworkingv1 "k8s.io/client-go/applyconfigurations/networking/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/controller/sources"
	"podium.dev/podium/internal/util/loop"
)

// Component is the name of the controller in events.
const Component = "service-cidr-controller"

const (
	// configuredName is the name of the ServiceCIDR of the configured range.
	configuredName = "kubernetes"
	// allocator is the label value of IPAddresses that belong to Services.
	allocator = "ipallocator.k8s.io"
	// leaked is the age from which an IPAddress without its Service is deleted: its create may be under way.
	leaked = time.Minute
)

// key is a ServiceCIDR, or an IPAddress that may be missing or, with leak, be left over.
type key struct {
	address, leak bool
	name          string
}

// Controller looks after ServiceCIDRs and IPAddresses.
type Controller struct {
	client     kubernetes.Interface
	byIP       cache.Indexer
	synced     cache.InformerSynced
	loop       *loop.Loop[key]
	events     record.EventRecorder
	clock      clock.Clock
	configured netip.Prefix

	mu sync.Mutex
	// leaving are the ServiceCIDRs that wait to be deleted.
	leaving map[string]bool
}

// byClusterIP is the index of Services by their cluster IPs.
const byClusterIP = "clusterIP"

// New returns a controller. configured is the range of cluster IPs that the API server was given.
func New(client kubernetes.Interface, src *sources.Sources, events record.EventRecorder, c clock.Clock, configured netip.Prefix) *Controller {
	services := src.All().Core().V1().Services()
	// AddIndexers fails only for an informer that was started.
	_ = services.Informer().AddIndexers(cache.Indexers{byClusterIP: func(o any) ([]string, error) { return clusterIPs(o.(*corev1.Service)), nil }})
	k := &Controller{
		client: client, byIP: services.Informer().GetIndexer(), synced: services.Informer().HasSynced,
		events: events, clock: c, configured: configured, leaving: map[string]bool{},
	}
	k.loop = loop.New("servicecidr", c, 1, k.sync)
	return k
}

func clusterIPs(s *corev1.Service) []string {
	return slices.DeleteFunc(slices.Clone(s.Spec.ClusterIPs), func(ip string) bool { return ip == "" || ip == corev1.ClusterIPNone })
}

// Run runs the controller until ctx ends.
func (k *Controller) Run(ctx context.Context) { k.loop.RunSynced(ctx, k.synced) }

// OnSeen handles an object of any kind that was found, changed or deleted.
func (k *Controller) OnSeen(resource schema.GroupResource, o metav1.Object, gone bool) {
	switch resource {
	case networkingv1.Resource("servicecidrs"):
		k.note(o.GetName(), !gone && o.GetDeletionTimestamp() != nil)
		k.loop.Add(key{name: o.GetName()})
		k.queueLeaving() // they may wait for another range with their addresses
	case networkingv1.Resource("ipaddresses"):
		if o.GetLabels()[networkingv1.LabelManagedBy] != allocator {
			return
		}
		of := k.serviceOf(o.GetName())
		switch {
		case gone && of != nil:
			k.loop.Add(key{address: true, name: o.GetName()})
		case !gone && of == nil:
			k.loop.AddAfter(key{address: true, leak: true, name: o.GetName()}, leaked)
		}
		if gone {
			k.queueLeaving()
		}
	}
}

func (k *Controller) note(name string, leaving bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if leaving {
		k.leaving[name] = true
	} else {
		delete(k.leaving, name)
	}
}

func (k *Controller) queueLeaving() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.leaving {
		k.loop.Add(key{name: name})
	}
}

// serviceOf returns the Service that has the cluster IP, the first by age if there are several, or nil.
func (k *Controller) serviceOf(ip string) *corev1.Service {
	all, _ := k.byIP.ByIndex(byClusterIP, ip) // fails only for an index that does not exist
	var out *corev1.Service
	for _, o := range all {
		if s := o.(*corev1.Service); out == nil || s.CreationTimestamp.Before(&out.CreationTimestamp) {
			out = s
		}
	}
	return out
}

func (k *Controller) sync(ctx context.Context, of key) (time.Duration, error) {
	if of.address {
		return k.syncAddress(ctx, of)
	}
	c, err := k.client.NetworkingV1().ServiceCIDRs().Get(ctx, of.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, k.create(ctx, of.name)
	}
	if err != nil {
		return 0, fmt.Errorf("read service CIDR %s: %w", of.name, err)
	}
	var all []networkingv1.ServiceCIDR
	var used []netip.Addr
	if c.DeletionTimestamp != nil {
		if all, used, err = k.inUse(ctx); err != nil {
			return 0, err
		}
	} else if want := k.configured.String(); c.Name == configuredName && (len(c.Spec.CIDRs) == 0 || c.Spec.CIDRs[0] != want) {
		k.events.Eventf(c, corev1.EventTypeWarning, "KubernetesDefaultServiceCIDRInconsistent",
			"The default ServiceCIDR %v does not match the controller flag configurations %s", c.Spec.CIDRs, []string{want})
	}
	return k.carryOut(ctx, c, decide(c, all, used, k.clock.Now()))
}

// carryOut makes the ServiceCIDR what the plan says.
func (k *Controller) carryOut(ctx context.Context, c *networkingv1.ServiceCIDR, p plan) (time.Duration, error) {
	client := k.client.NetworkingV1().ServiceCIDRs()
	if p.finalizer != slices.Contains(c.Finalizers, Finalizer) {
		verb := "finalizers"
		if !p.finalizer {
			verb = "$deleteFromPrimitiveList/finalizers"
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": c.UID, verb: []string{Finalizer}}})
		if err != nil {
			return 0, fmt.Errorf("write a patch of service CIDR %s: %w", c.Name, err)
		}
		if _, err := client.Patch(ctx, c.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("change the finalizers of service CIDR %s: %w", c.Name, err)
		}
	}
	if p.ready != nil {
		condition := applymetav1.Condition().WithType(p.ready.Type).WithStatus(p.ready.Status).WithReason(p.ready.Reason).
			WithMessage(p.ready.Message).WithLastTransitionTime(metav1.NewTime(k.clock.Now()))
		apply := applynetworkingv1.ServiceCIDR(c.Name).WithStatus(applynetworkingv1.ServiceCIDRStatus().WithConditions(condition))
		if _, err := client.ApplyStatus(ctx, apply, metav1.ApplyOptions{FieldManager: Component, Force: true}); err != nil {
			if p.ready.Status == metav1.ConditionTrue {
				k.events.Eventf(c, corev1.EventTypeWarning, "KubernetesServiceCIDRError", "The ServiceCIDR Status can not be set to Ready=True")
			}
			return 0, fmt.Errorf("write the status of service CIDR %s: %w", c.Name, err)
		}
	}
	return p.again, nil
}

// create creates the ServiceCIDR of the configured range again if it is the one that is missing.
func (k *Controller) create(ctx context.Context, name string) error {
	if name != configuredName {
		return nil
	}
	_, err := k.client.NetworkingV1().ServiceCIDRs().Create(ctx, &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{k.configured.String()}},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the service CIDR of the configured range: %w", err)
	}
	return nil
}

// inUse returns all ServiceCIDRs, and the addresses that Services have.
func (k *Controller) inUse(ctx context.Context) ([]networkingv1.ServiceCIDR, []netip.Addr, error) {
	list, err := k.client.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list the service CIDRs: %w", err)
	}
	addresses, err := k.client.NetworkingV1().IPAddresses().List(ctx, metav1.ListOptions{LabelSelector: networkingv1.LabelManagedBy + "=" + allocator})
	if err != nil {
		return nil, nil, fmt.Errorf("list the addresses of services: %w", err)
	}
	var used []netip.Addr
	for i := range addresses.Items {
		if ip, err := netip.ParseAddr(addresses.Items[i].Name); err == nil {
			used = append(used, ip)
		}
	}
	return list.Items, used, nil
}

// syncAddress creates the IPAddress of a Service that lost it, and deletes one that belongs to no Service.
func (k *Controller) syncAddress(ctx context.Context, what key) (time.Duration, error) {
	name, of := what.name, k.serviceOf(what.name)
	if what.leak == (of != nil) {
		return 0, nil
	}
	client := k.client.NetworkingV1().IPAddresses()
	have, err := client.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && of != nil:
		return 0, k.reserve(ctx, name, of)
	case apierrors.IsNotFound(err), err == nil && of != nil:
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read the address %s: %w", name, err)
	}
	if left := leaked - k.clock.Since(have.CreationTimestamp.Time); left > 0 {
		return left, nil
	}
	if ref := have.Spec.ParentRef; ref == nil || ref.Group != "" || ref.Resource != "services" {
		k.events.Eventf(have, corev1.EventTypeWarning, "IPAddressNotAllocated",
			"IPAddress %s appears to have been modified, not referencing a Service %v: cleaning up", name, ref)
	} else {
		k.events.Eventf(have, corev1.EventTypeWarning, "IPAddressNotAllocated",
			"IPAddress: %s for Service %s/%s appears to have leaked: cleaning up", name, ref.Namespace, ref.Name)
	}
	err = client.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("delete the address %s, which no service has: %w", name, err)
	}
	return 0, nil
}

// reserve creates the IPAddress of a Service.
func (k *Controller) reserve(ctx context.Context, name string, of *corev1.Service) error {
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return nil // the API server does not give such an address
	}
	family := corev1.IPv4Protocol
	if ip.Is6() {
		family = corev1.IPv6Protocol
	}
	// The watch of Services may be behind: what was just deleted must not get an address again.
	if _, err := k.client.CoreV1().Services(of.Namespace).Get(ctx, of.Name, metav1.GetOptions{}); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("read service %s/%s: %w", of.Namespace, of.Name, err)
	}
	k.events.Eventf(of, corev1.EventTypeWarning, "ClusterIPNotAllocated", "Cluster IP [%v]: %s is not allocated; repairing", family, name)
	_, err = k.client.NetworkingV1().IPAddresses().Create(ctx, &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{networkingv1.LabelIPAddressFamily: string(family), networkingv1.LabelManagedBy: allocator}},
		Spec:       networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: of.Namespace, Name: of.Name}},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the address %s of service %s/%s: %w", name, of.Namespace, of.Name, err)
	}
	return nil
}
