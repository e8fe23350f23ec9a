// Package network gives each Pod sandbox its network: a link to the node's bridge, an address of the node's Pod
// CIDR, a way out, host ports and the way to the API server's Service. A CNI configuration in the CNI folder
// takes the built-in network's place.
package network

import (
	"net/netip"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/paths"
)

// Config is what a node's network is made from.
type Config struct {
	// Paths are the node's places: Network for state, CNIConf and CNIBin for CNI, ID for names on the machine.
	Paths paths.Paths
	// PodCIDRs are the node's ranges of Pod addresses, at most one of each family, the primary family first.
	PodCIDRs []netip.Prefix
	// ClusterCIDRs are ranges that Pods reach with their own address, such as those of other nodes' Pods; what goes
	// elsewhere is masqueraded.
	ClusterCIDRs []netip.Prefix
	// ServiceIP is the cluster IP of the "kubernetes" Service; the zero Addr serves none.
	ServiceIP netip.Addr
	// APIServer is where ServiceIP's port 443 leads. A loopback address is allowed.
	APIServer netip.AddrPort
	// Own are the ports that the node itself listens on. No host port of a Pod takes them. ListenOn adds to them.
	Own []OwnPort
	// MTU of the Pods' links; 0 takes that of the link with the default route, or 1500.
	MTU int
}

// OwnPort is a TCP port that the node itself listens on.
type OwnPort struct {
	// Name says whose it is, as in "the API server".
	Name string
	// At is the address and the port; an unspecified address is every address of the node.
	At netip.AddrPort
}

// Request is one sandbox's wish. Everything but ID and NetNSPath may be missing.
type Request struct {
	// ID is the sandbox's; it is the key of all calls.
	ID string
	// Namespace, Name and UID are the Pod's.
	Namespace, Name, UID string
	// NetNSPath is the path of the sandbox's network namespace, bound or /proc/PID/ns/net.
	NetNSPath string
	// PortMappings are the host ports. Those with HostPort 0 are passed over.
	PortMappings []*runtimeapi.PortMapping
	// Annotations and Labels are the Pod's.
	Annotations, Labels map[string]string
	// Bandwidth limits the Pod's link.
	Bandwidth Bandwidth
}

// Bandwidth limits a Pod's link, in bits a second; 0 is no limit.
type Bandwidth struct {
	Ingress, Egress int64
}

// Result is what a sandbox got.
type Result struct {
	// IPs are the Pod's addresses, the primary first.
	IPs []netip.Addr
}
