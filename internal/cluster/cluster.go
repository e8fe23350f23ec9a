// Package cluster has the facts that every part of a cluster must agree on: its address ranges and its DNS domain.
package cluster

import "net/netip"

// Domain is the DNS domain below which Services and Pods have their names.
const Domain = "cluster.local"

// PodRange is the range from which each node's Pods take their addresses, a /24 per node.
var PodRange = netip.MustParsePrefix("10.244.0.0/16")

// ServiceRange is the range of the Services' cluster IPs.
var ServiceRange = netip.MustParsePrefix("10.96.0.0/16")

// APIServerNames are the names by which Pods reach the API server: those of the Service kubernetes.
func APIServerNames() []string {
	return []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + Domain}
}
