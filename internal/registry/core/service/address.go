package service

import (
	"context"
	"fmt"
	"math/rand/v2"
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

// manager is the label value that marks IPAddress objects made here.
const manager = "ipallocator.k8s.io"

// chosen returns how many addresses at the start of a range of this size are kept for services that request a particular one, as
// long as there are others: a sixteenth, from 16 to 256 (KEP-3070).
func chosen(size uint32) uint32 {
	if size < 16 {
		return 2
	}
	return min(max(size/16, 16), 256)
}

// addresses allocates cluster IPs: an address is in use if there is an IPAddress of its name.
type addresses struct {
	lookup func(schema.GroupResource) *genericregistry.Store
	// within is the range. Its first address after the network's own is that of the Service "kubernetes" in the namespace
	// "default", which is the API server.
	within netip.Prefix
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
	switch {
	case (!a.within.Contains(ip) || ip == a.within.Addr() || ip == a.last()) && dry:
		return "", refuse(fmt.Errorf("the provided IP (%v) is not in the valid range. The range of valid IPs is %s", ip, a.within))
	case !a.within.Contains(ip) || ip == a.within.Addr() || ip == a.last():
		return "", refuse(fmt.Errorf("the provided network does not match the current range"))
	case ip == a.nth(1) && (s.Namespace != metav1.NamespaceDefault || s.Name != "kubernetes"):
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

// takeAny tries the addresses from a random one on. The part that is kept for requested addresses comes last.
func (a *addresses) takeAny(ctx context.Context, store *genericregistry.Store, s *corev1.Service, dry bool) (string, error) {
	if dry {
		return a.within.Addr().String(), nil
	}
	size := uint32(1) << (a.within.Addr().BitLen() - a.within.Bits())
	kept := chosen(size)
	for _, part := range [][2]uint32{{kept, size - 1}, {2, kept}} { // without the network, the API server and the broadcast address
		if part[0] >= part[1] {
			continue
		}
		length := part[1] - part[0]
		start := rand.Uint32N(length)
		for i := range length {
			ip := a.nth(part[0] + (start+i)%length)
			if _, err := store.Get(ctx, ip.String(), &metav1.GetOptions{ResourceVersion: "0"}); err == nil {
				continue
			}
			switch err := create(ctx, store, s, ip); {
			case err == nil:
				return ip.String(), nil
			case err != errTaken:
				return "", invalid(s, field.Invalid(ips, s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP: %v", err)))
			}
		}
	}
	return "", apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: range is full", s.Name))
}

// nth returns the n-th address of the range.
func (a *addresses) nth(n uint32) netip.Addr {
	b := a.within.Addr().As4()
	for i := len(b) - 1; n > 0; i-- {
		b[i] |= byte(n)
		n >>= 8
	}
	return netip.AddrFrom4(b)
}

func (a *addresses) last() netip.Addr {
	return a.nth(1<<(a.within.Addr().BitLen()-a.within.Bits()) - 1)
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
