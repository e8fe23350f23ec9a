// Package nodes reaches the servers of the node agents: for logs, exec and the like, and for clients by
// nodes/proxy.
package nodes

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"podium.dev/podium/internal/apistore"
	"podium.dev/podium/internal/pki"
	"podium.dev/podium/internal/registry/kit"
)

// Connector knows where the nodes' servers are, and is known to them.
type Connector struct {
	stores    apistore.Stores
	transport http.RoundTripper
}

var _ kit.NodeConnector = &Connector{}

// NewConnector makes a connector that shows the API server's client certificate.
func NewConnector(stores apistore.Stores, authority *pki.Authority) (*Connector, error) {
	t, err := authority.Transport(pki.KubeletClient)
	if err != nil {
		return nil, fmt.Errorf("make the certificate for the nodes' servers: %w", err)
	}
	return &Connector{stores: stores, transport: t}, nil
}

// Node implements kit.NodeConnector.
func (c *Connector) Node(ctx context.Context, name string) (*url.URL, http.RoundTripper, error) {
	node, err := apistore.Get[*corev1.Node](ctx, c.stores, apistore.Core("nodes"), "", name)
	if apierrors.IsNotFound(err) {
		node, err = apistore.GetCurrent[*corev1.Node](ctx, c.stores, apistore.Core("nodes"), "", name)
	}
	if err != nil {
		return nil, nil, err
	}
	host := address(node)
	port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if host == "" || port == 0 {
		return nil, nil, fmt.Errorf("the address of node %s is not known: its agent has not said yet where it listens", name)
	}
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(port)))}, c.transport, nil
}

// address is the IP address of a node: names are not to be relied on, as nothing need resolve them.
func address(n *corev1.Node) string {
	for _, t := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range n.Status.Addresses {
			if a.Type == t {
				return a.Address
			}
		}
	}
	return ""
}
