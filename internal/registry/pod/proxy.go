package pod

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/registry/rest"
	netutils "k8s.io/utils/net"
)

// proxyREST passes HTTP requests on to a Pod's own address.
type proxyREST struct {
	pods      podGetter
	transport http.RoundTripper
}

var _ rest.Connecter = &proxyREST{}

// podTransport reaches Pods. What a Pod serves over TLS is not verified: there is nobody who could vouch for it.
func podTransport() http.RoundTripper {
	return utilnet.SetTransportDefaults(&http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}})
}

// New implements rest.Storage.
func (r *proxyREST) New() runtime.Object { return &corev1.PodProxyOptions{} }

// Destroy implements rest.Storage; there is nothing to destroy.
func (r *proxyREST) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (r *proxyREST) ConnectMethods() []string {
	return []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
}

// NewConnectOptions implements rest.Connecter: the rest of the path is the path on the Pod.
func (r *proxyREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodProxyOptions{}, true, "path"
}

// Connect implements rest.Connecter.
func (r *proxyREST) Connect(ctx context.Context, id string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	o, ok := options.(*corev1.PodProxyOptions)
	if !ok {
		return nil, fmt.Errorf("Invalid options object: %#v", options) //nolint:staticcheck // Kubernetes' words
	}
	location, err := r.location(ctx, id)
	if err != nil {
		return nil, err
	}
	location.Path = utilnet.JoinPreservingTrailingSlash(location.Path, o.Path)
	const wrapTransport, upgradeRequired = true, false
	return proxy.NewUpgradeAwareHandler(location, r.transport, wrapTransport, upgradeRequired, proxy.NewErrorResponder(responder)), nil
}

// location answers with the address that NAME, NAME:PORT or SCHEME:NAME:PORT stands for. Without a port it is
// the first that the Pod's containers name.
func (r *proxyREST) location(ctx context.Context, id string) (*url.URL, error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, errors.NewBadRequest(fmt.Sprintf("invalid pod request %q", id))
	}
	pod, err := getPod(ctx, r.pods, name)
	if err != nil {
		return nil, err
	}
	if port == "" {
		port = firstPort(pod)
	}
	address := ""
	if len(pod.Status.PodIPs) > 0 {
		address = pod.Status.PodIPs[0].IP
	}
	// The API server's own host and network are not to be reached this way.
	if ip := netutils.ParseIPSloppy(address); ip == nil || !ip.IsGlobalUnicast() {
		return nil, errors.NewBadRequest("address not allowed")
	}
	host := address
	switch {
	case port != "":
		host = net.JoinHostPort(address, port)
	case strings.Contains(address, ":"):
		host = "[" + address + "]"
	}
	return &url.URL{Scheme: scheme, Host: host}, nil
}

func firstPort(pod *corev1.Pod) string {
	for i := range pod.Spec.Containers {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			return strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	return ""
}
