package service

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
)

// pool is a range of cluster IPs.
type pool struct{ netip.Prefix }

// chosen returns how many addresses at the start of a range of this size are kept for services that request a particular one, as
// long as there are others: a sixteenth, from 16 to 256 (KEP-3070).
func chosen(size uint32) uint32 {
	if size < 16 {
		return 2
	}
	return min(max(size/16, 16), 256)
}

// size returns the number of addresses of the range, or the largest number if there are more.
func (p pool) size() uint32 {
	if bits := p.Addr().BitLen() - p.Bits(); bits < 32 {
		return uint32(1) << bits
	}
	return 1<<32 - 1
}

// nth returns the n-th address of the range.
func (p pool) nth(n uint32) netip.Addr {
	b := p.Addr().AsSlice()
	for i := len(b) - 1; n > 0; i-- {
		b[i] |= byte(n)
		n >>= 8
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// gives reports whether a service can have the address: not the network's own and not the broadcast address.
func (p pool) gives(ip netip.Addr) bool {
	return p.Contains(ip) && ip != p.Addr() && ip != p.nth(p.size()-1)
}

// takeAny tries the addresses from a random one on. The part that is kept for requested addresses comes last. The
// result is not valid if all are in use.
func (p pool) takeAny(ctx context.Context, store *genericregistry.Store, s *corev1.Service) (netip.Addr, error) {
	kept := chosen(p.size())
	for _, part := range [][2]uint32{{kept, p.size() - 1}, {2, kept}} { // without the network, the API server and the broadcast address
		if part[0] >= part[1] {
			continue
		}
		length := part[1] - part[0]
		start := rand.Uint32N(length)
		for i := range length {
			ip := p.nth(part[0] + uint32((uint64(start)+uint64(i))%uint64(length)))
			if _, err := store.Get(ctx, ip.String(), &metav1.GetOptions{ResourceVersion: "0"}); err == nil {
				continue
			}
			if err := create(ctx, store, s, ip); err != errTaken {
				return ip, err
			}
		}
	}
	return netip.Addr{}, nil
}

// has reports whether a range gives the address. A range that the cache does not have yet counts.
func (a *addresses) has(ctx context.Context, ip netip.Addr) (bool, error) {
	for _, fresh := range []bool{false, true} {
		pools, err := a.pools(ctx, fresh)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(pools, func(p pool) bool { return p.gives(ip) }) {
			return true, nil
		}
	}
	return false, nil
}

// pools returns the ranges in use. They are those of the cache, unless fresh ones are asked for.
func (a *addresses) pools(ctx context.Context, fresh bool) ([]pool, error) {
	store := a.lookup(schema.GroupResource{Group: networkingv1.GroupName, Resource: "servicecidrs"})
	if store == nil { // a server of few kinds, as tests have it
		return []pool{a.within}, nil
	}
	options := &metainternal.ListOptions{}
	if !fresh {
		options.ResourceVersion = "0"
	}
	obj, err := store.List(clusterScoped(ctx), options)
	if err != nil {
		return nil, fmt.Errorf("list the ranges of cluster IPs: %w", err)
	}
	return usable(obj.(*networkingv1.ServiceCIDRList).Items, a.within), nil
}

// usable returns the ranges from which addresses are given: those of ServiceCIDRs that are not being deleted and not
// marked as unready, the configured one first. It counts as long as there is no ServiceCIDR of it.
func usable(all []networkingv1.ServiceCIDR, configured pool) []pool {
	var out []pool
	known := false
	for i := range all {
		c := &all[i]
		known = known || c.Name == kubernetes
		if c.DeletionTimestamp != nil || apimeta.IsStatusConditionFalse(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
			continue
		}
		for _, cidr := range c.Spec.CIDRs {
			p, err := netip.ParsePrefix(cidr)
			if err != nil || p.Addr().Is4() != configured.Addr().Is4() || slices.Contains(out, pool{p}) {
				continue
			}
			out = append(out, pool{p})
		}
	}
	if !known && !slices.Contains(out, configured) {
		out = append(out, configured)
	}
	slices.SortStableFunc(out, func(x, y pool) int {
		switch {
		case x == configured && y != configured:
			return -1
		case y == configured && x != configured:
			return 1
		}
		return 0
	})
	return out
}
