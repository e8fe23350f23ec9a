package service

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

// kubernetes is the name of the Service by which Pods reach the API server, and of the ServiceCIDR of the configured range.
const kubernetes = "kubernetes"

// manager is the label value that marks IPAddress objects made here.
const manager = "ipallocator.k8s.io"

// addresses allocates cluster IPs: an address is in use if there is an IPAddress of its name. It gives those of all
// ServiceCIDRs (KEP-1880).
type addresses struct {
	lookup func(schema.GroupResource) *genericregistry.Store
	// within is the configured range, in use also before there is a ServiceCIDR that has it. Its first address after the
	// network's own is that of the Service "kubernetes" in the namespace "default", which is the API server.
	within pool
}

func (a *addresses) store() (*genericregistry.Store, error) {
	resource := schema.GroupResource{Group: networkingv1.GroupName, Resource: "ipaddresses"}
	if s := a.lookup(resource); s != nil {
		return s, nil
	}
	return nil, apierrors.NewInternalError(fmt.Errorf("reserve a cluster IP: %s are not served", resource))
}

// take allocates the requested address, or any if none is requested, and returns it. A dry run allocates
// nothing.
func (a *addresses) take(ctx context.Context, s *corev1.Service, asked string, dry bool) (string, error) {
	store, err := a.store()
	if err != nil {
		return "", err
	}
	ctx = clusterScoped(ctx)
	if asked == "" {
		return a.takeAny(ctx, store, s, dry)
	}
	refuse := func(err error) error {
		return invalid(s, field.Invalid(ips, s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %v: %v", asked, err)))
	}
	ip, err := netip.ParseAddr(asked)
	if err != nil {
		return "", apierrors.NewInternalError(fmt.Errorf("failed to parse service IP %q", asked))
	}
	has, err := a.has(ctx, ip)
	switch {
	case err != nil:
		return "", err
	case !has && dry:
		return "", refuse(fmt.Errorf("the provided IP (%v) is not in the valid range. The range of valid IPs is %s", ip, a.within))
	case !has:
		return "", refuse(fmt.Errorf("the provided network does not match the current range"))
	case ip == a.within.nth(1) && (s.Namespace != metav1.NamespaceDefault || s.Name != kubernetes):
		return "", refuse(errTaken)
	case dry:
		return asked, nil
	}
	if err := create(ctx, store, s, ip); err != nil {
		return "", refuse(err)
	}
	return asked, nil
}

var errTaken = fmt.Errorf("provided IP is already allocated")

// takeAny gives an address of any range that has one left.
func (a *addresses) takeAny(ctx context.Context, store *genericregistry.Store, s *corev1.Service, dry bool) (string, error) {
	if dry {
		return a.within.Addr().String(), nil
	}
	full := map[pool]bool{}
	for _, fresh := range []bool{false, true} {
		pools, err := a.pools(ctx, fresh)
		if err != nil {
			return "", err
		}
		for _, p := range pools {
			if full[p] {
				continue
			}
			ip, err := p.takeAny(ctx, store, s)
			if err != nil {
				return "", invalid(s, field.Invalid(ips, s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP: %v", err)))
			}
			if ip.IsValid() {
				return ip.String(), nil
			}
			full[p] = true
		}
	}
	return "", apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: range is full", s.Name))
}

// create creates the IPAddress that allocates ip to the service. It returns errTaken if there is one already.
func create(ctx context.Context, store *genericregistry.Store, s *corev1.Service, ip netip.Addr) error {
	_, err := store.Create(ctx, &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Name: ip.String(),
			Labels: map[string]string{
				networkingv1.LabelIPAddressFamily: string(family),
				networkingv1.LabelManagedBy:       manager,
			},
		},
		Spec: networkingv1.IPAddressSpec{
			ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: s.Namespace, Name: s.Name},
		},
	}, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return errTaken
	}
	return err
}

// release frees an address.
func (a *addresses) release(ctx context.Context, ip string) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	_, _, err = store.Delete(clusterScoped(ctx), ip, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("release cluster IP %s: %w", ip, err)
	}
	return nil
}

// clusterScoped returns a context for a cluster-scoped object, from that of a request for a service.
func clusterScoped(ctx context.Context) context.Context {
	return request.WithNamespace(ctx, metav1.NamespaceNone)
}
