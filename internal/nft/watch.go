package nft

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

// Watch tells when a table of the name may have been deleted, until the context ends; done then counts down. Several
// deletions may be told once.
func Watch(ctx context.Context, table string, done *sync.WaitGroup) (<-chan struct{}, error) {
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

// deletesTable reports whether m tells of the deletion of the table.
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
