package network

import (
	"net/netip"
	"slices"
	"strings"
)

// Sandbox is a sandbox of the built-in network.
type Sandbox struct {
	// ID is the sandbox's; Namespace, Name and UID are its Pod's.
	ID, Namespace, Name, UID string
	// IPs are its addresses, the primary first.
	IPs []netip.Addr
	// Link is the node's end of its link.
	Link string
}

// Sandboxes returns the sandboxes that have addresses of the built-in network, sorted by ID.
func (n *Network) Sandboxes() []Sandbox {
	var out []Sandbox
	for _, r := range n.ledger.all() {
		if r.CNI == "" && len(r.IPs) > 0 {
			out = append(out, Sandbox{ID: r.ID, Namespace: r.Namespace, Name: r.Name, UID: r.UID, IPs: r.IPs, Link: hostLink(r.ID)})
		}
	}
	slices.SortFunc(out, func(a, b Sandbox) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// PortGroup is the device group of the node's ends of the sandboxes' links.
func (n *Network) PortGroup() uint32 { return n.builtin.guard.group }

// UsesCNI reports whether a CNI configuration serves new sandboxes. A broken one counts: it will be repaired.
func (n *Network) UsesCNI() bool {
	list, err := n.cni.current()
	return err != nil || list != nil
}
