package nodes

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"podium.dev/podium/internal/registry/kit/httpproxy"
)

// NewProxy makes the store of nodes/proxy: requests go on to the node's server as they are. A node may be named
// with the port of its server (NAME:10250).
func NewProxy(c *Connector) *httpproxy.REST {
	return httpproxy.New(&corev1.NodeProxyOptions{}, c.locate)
}

func (c *Connector) locate(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", id))
	}
	location, transport, err := c.Node(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if port != "" && port != location.Port() || scheme != "" && scheme != "https" {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("node %s is reached at https and port %s only", name, location.Port()))
	}
	return location, transport, nil
}
