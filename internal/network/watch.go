package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// arrange brings up what serves the Pods as things are now: bridge and rules, or with CNI the Service's rules alone.
// A broken CNI configuration is no error here: Ready tells it, and a mended one is noticed.
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
	return writeTables(n.builtin.serviceOnly())
}

// tablesThere reports whether the tables of what serves the Pods are there.
func (n *Network) tablesThere() (bool, error) {
	if n.builtin.bridgeIndex() != 0 {
		return n.builtin.tablesThere()
	}
	return tablesExist([]tableSpec{n.builtin.serviceOnly()})
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

// watchTable tells when a table of the name may have been deleted. Several deletions may be told once.
func watchTable(ctx context.Context, table string, done *sync.WaitGroup) (<-chan struct{}, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("watch nftables: %w", err)
	}
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		conn.Close()
		return nil, fmt.Errorf("watch nftables: %w", err)
	}
	out := make(chan struct{}, 1)
	done.Add(2)
	go func() {
		defer done.Done()
		<-ctx.Done()
		conn.Close()
	}()
	go func() {
		defer done.Done()
		for {
			messages, err := conn.Receive()
			if errors.Is(err, unix.ENOBUFS) {
				// More happened than the socket could hold: any of it may have been ours.
				notify(out)
				continue
			}
			if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
				return
			}
			if err != nil {
				klog.FromContext(ctx).Error(err, "The watch on nftables ended; a deleted table is no longer restored", "table", table)
				return
			}
			for _, m := range messages {
				if deletesTable(m, table) {
					notify(out)
				}
			}
		}
	}()
	return out, nil
}

// deletesTable says whether m tells of the deletion of the table.
func deletesTable(m netlink.Message, table string) bool {
	const header = 4 // nfgenmsg: family, version, resource
	if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE || len(m.Data) < header {
		return false
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[header:])
	if err != nil {
		return false
	}
	for attrs.Next() {
		if attrs.Type() == unix.NFTA_TABLE_NAME {
			return attrs.String() == table
		}
	}
	return false
}

// notify leaves a note, unless there is one already.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
