package network

import (
	"context"

	"k8s.io/klog/v2"

	"podium.dev/podium/internal/nft"
)

// arrange brings up what serves the Pods as things are now: bridge and rules, or with CNI the Service's rules alone.
// A broken CNI configuration is no error here: Ready reports it, and a repaired one is noticed.
func (n *Network) arrange() error {
	list, err := n.cni.current()
	if err != nil {
		return nil
	}
	if list == nil {
		return n.builtin.ensure(true)
	}
	if n.builtin.bridgeIndex() != 0 || len(n.ledger.all()) > 0 && n.hasBuiltin() {
		// Pods of the built-in network live on until they are deleted.
		return n.builtin.ensure(true)
	}
	return nft.Write(n.builtin.serviceOnly())
}

// tablesThere reports whether the tables of what serves the Pods are there.
func (n *Network) tablesThere() (bool, error) {
	if n.builtin.bridgeIndex() != 0 {
		return n.builtin.tablesThere()
	}
	return nft.Exist(n.builtin.serviceOnly())
}

func (n *Network) hasBuiltin() bool {
	for _, r := range n.ledger.all() {
		if r.CNI == "" {
			return true
		}
	}
	return false
}

// follow acts on a CNI configuration that came, changed or went, and on the node's table being deleted by somebody
// else: "nft flush ruleset", as a restart of a firewall does it, would cut off all Pods.
func (n *Network) follow(ctx context.Context, changed, flushed <-chan struct{}) {
	log := klog.FromContext(ctx).WithName("network")
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			list, err := n.cni.current()
			if err != nil {
				log.Error(err, "The CNI configuration cannot be used")
				continue
			}
			if list != nil {
				log.Info("CNI serves the Pods' network", "network", list.Name)
			}
		case <-flushed:
			if there, err := n.tablesThere(); err == nil && there {
				continue
			}
			log.Info("A table of the node was deleted from nftables by another program; restoring it", "table", n.cfg.Paths.ID)
		}
		if err := n.arrange(); err != nil {
			log.Error(err, "The Pods' network cannot be brought up")
		}
	}
}

// notify leaves a note, unless there is one already.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
