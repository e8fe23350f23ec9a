package app

import (
	"context"
	"net/netip"
	"slices"

	"podium.dev/podium/internal/netpolicy"
	"podium.dev/podium/internal/pki"
)

// startPolicies enforces NetworkPolicies from the moment when the API server can be reached. Another runtime has a network of its
// own, and with it what enforces them.
func (d *daemon) startPolicies(ctx context.Context) error {
	if d.network == nil {
		return nil
	}
	client, err := d.client(pki.NetworkPolicies)
	if err != nil {
		return err
	}
	d.policies = netpolicy.New(netpolicy.Config{
		ID: d.c.Paths.ID, NodeName: d.c.NodeName, Client: client, Network: d.network, Clock: d.clock,
		IPv6: slices.ContainsFunc(d.podCIDRs, func(p netip.Prefix) bool { return p.Addr().Is6() }),
	})
	d.parts.start(ctx, "network policies", func(ctx context.Context) error {
		select {
		case <-d.reachable:
		case <-ctx.Done():
			return nil
		}
		return d.policies.Run(ctx)
	})
	return nil
}
