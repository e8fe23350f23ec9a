package app

import (
	"fmt"
	"net"
	"net/netip"

	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/node/pod"
)

// apiPort is the API server's own port. It is known before anything listens, so that a host port that a Pod was given
// by an earlier version does not stand between the API server and its clients when they start.
func (d *daemon) apiPort() (network.OwnPort, error) {
	at, err := netip.ParseAddrPort(d.c.Bind)
	if err != nil {
		return network.OwnPort{}, fmt.Errorf("--bind %q is not ADDR:PORT with a numeric address: %w", d.c.Bind, err)
	}
	return network.OwnPort{Name: "the API server", At: plain(at)}, nil
}

// keepOwnPorts makes the ports that the node listens on its own, for the network and for the node's admission of Pods.
// A port that this process opens for others to connect to belongs in the list.
func (d *daemon) keepOwnPorts(node net.Listener) ([]pod.OwnPort, error) {
	api, err := d.apiPort()
	if err != nil {
		return nil, err
	}
	own := []network.OwnPort{api}
	if at, ok := node.Addr().(*net.TCPAddr); ok {
		own = append(own, network.OwnPort{Name: "the node's server", At: plain(at.AddrPort())})
	}
	if d.cri != nil {
		own = append(own, network.OwnPort{Name: "the runtime's streams", At: plain(d.cri.StreamingAddr())})
	}
	if d.network != nil {
		if err := d.network.ListenOn(own...); err != nil {
			return nil, err
		}
	}
	out := make([]pod.OwnPort, len(own))
	for i, o := range own {
		out[i] = pod.OwnPort(o)
	}
	return out, nil
}

func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
