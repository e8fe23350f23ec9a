// Package httpproxy serves the subresource "proxy" of Pods, Services and nodes. It forwards HTTP requests to what
// the object stands for.
package httpproxy

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

// Locate returns the URL that NAME, NAME:PORT or SCHEME:NAME:PORT stands for, and a transport to reach it.
type Locate func(ctx context.Context, id string) (*url.URL, http.RoundTripper, error)

// REST forwards requests.
type REST struct {
	options runtime.Object
	locate  Locate
}

var _ rest.Connecter = &REST{}

// New returns the storage of a proxy subresource. options is an empty object of the kind's proxy options.
func New(options runtime.Object, locate Locate) *REST {
	return &REST{options: options, locate: locate}
}

// PodTransport returns a transport to Pods. It does not verify TLS certificates, because no authority vouches
// for them.
func PodTransport() http.RoundTripper {
	return utilnet.SetTransportDefaults(&http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}})
}

// New implements rest.Storage.
func (r *REST) New() runtime.Object { return r.options.DeepCopyObject() }

// Destroy implements rest.Storage.
func (r *REST) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (r *REST) ConnectMethods() []string {
	return []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
}

// NewConnectOptions implements rest.Connecter. The rest of the request's path is the path at the target.
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
