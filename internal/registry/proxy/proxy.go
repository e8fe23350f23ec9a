// Package proxy serves the subresource "proxy" of Pods, Services and nodes: an HTTP request goes on to what the
// object stands for, and the answer comes back.
package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	utilproxy "k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/registry/rest"
)

// Locate answers with the address that NAME, NAME:PORT or SCHEME:NAME:PORT stands for, and how to get there.
type Locate func(ctx context.Context, id string) (*url.URL, http.RoundTripper, error)

// REST passes requests on.
type REST struct {
	options runtime.Object
	locate  Locate
}

var _ rest.Connecter = &REST{}

// New makes the store of a proxy subresource. options is an empty object of the kind's proxy options.
func New(options runtime.Object, locate Locate) *REST {
	return &REST{options: options, locate: locate}
}

// PodTransport reaches Pods. What a Pod serves over TLS is not verified: there is nobody who could vouch for it.
func PodTransport() http.RoundTripper {
	return utilnet.SetTransportDefaults(&http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}})
}

// New implements rest.Storage.
func (r *REST) New() runtime.Object { return r.options.DeepCopyObject() }

// Destroy implements rest.Storage; there is nothing to destroy.
func (r *REST) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (r *REST) ConnectMethods() []string {
	return []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
}

// NewConnectOptions implements rest.Connecter: the rest of the path is the path there.
func (r *REST) NewConnectOptions() (runtime.Object, bool, string) { return r.New(), true, "path" }

// Connect implements rest.Connecter.
func (r *REST) Connect(ctx context.Context, id string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	var path string
	switch o := options.(type) {
	case *corev1.PodProxyOptions:
		path = o.Path
	case *corev1.ServiceProxyOptions:
		path = o.Path
	case *corev1.NodeProxyOptions:
		path = o.Path
	default:
		return nil, fmt.Errorf("Invalid options object: %#v", options) //nolint:staticcheck // Kubernetes' words
	}
	location, transport, err := r.locate(ctx, id)
	if err != nil {
		return nil, err
	}
	location.Path = utilnet.JoinPreservingTrailingSlash(location.Path, path)
	const wrapTransport, upgradeRequired = true, false
	return utilproxy.NewUpgradeAwareHandler(location, transport, wrapTransport, upgradeRequired, utilproxy.NewErrorResponder(responder)), nil
}
