package service

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	utilproxy "k8s.io/apiserver/pkg/util/proxy"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/httpproxy"
)

// backends finds a Pod behind a service.
type backends struct {
	env       kit.Env
	transport http.RoundTripper
}

func connect(env kit.Env) (map[string]rest.Storage, error) {
	b := backends{env: env, transport: httpproxy.PodTransport()}
	return map[string]rest.Storage{"proxy": httpproxy.New(&corev1.ServiceProxyOptions{}, b.locate)}, nil
}

// locate returns the address of a ready Pod of the service. The port is one of the service's ports, by name or
// by number.
func (b backends) locate(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, nil, errors.NewBadRequest(fmt.Sprintf("invalid service request %q", id))
	}
	if number, err := strconv.ParseInt(port, 10, 64); err == nil {
		if port, err = b.portName(ctx, name, number); err != nil {
			return nil, nil, err
		}
	}
	found, err := b.slices(ctx, name)
	if err != nil {
		return nil, nil, errors.NewInternalError(err)
	}
	host, err := utilproxy.RandomEndpoint(name, found, port, corev1.IPv4Protocol, func(e *discoveryv1.Endpoint) bool { return b.isPod(ctx, e) })
	if err != nil {
		return nil, nil, err
	}
	return &url.URL{Scheme: scheme, Host: host}, b.transport, nil
}

func (b backends) portName(ctx context.Context, name string, number int64) (string, error) {
	obj, err := b.env.Store.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	for _, p := range obj.(*corev1.Service).Spec.Ports {
		if int64(p.Port) == number {
			return p.Name, nil
		}
	}
	return "", errors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, name))
}

func (b backends) slices(ctx context.Context, name string) (found []*discoveryv1.EndpointSlice, err error) {
	store := b.env.Lookup(discoveryv1.Resource("endpointslices"))
	if store == nil {
		return nil, nil
	}
	list, err := store.List(ctx, &metainternal.ListOptions{LabelSelector: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: name})})
	if err != nil {
		return nil, err
	}
	all := list.(*discoveryv1.EndpointSliceList).Items
	for i := range all {
		found = append(found, &all[i])
	}
	return found, nil
}

// isPod reports whether an endpoint is really a Pod of the request's namespace. Otherwise anybody who can write
// endpoints could direct the API server elsewhere.
func (b backends) isPod(ctx context.Context, e *discoveryv1.Endpoint) bool {
	pods := b.env.Lookup(corev1.Resource("pods"))
	if e.TargetRef == nil || e.TargetRef.Namespace != request.NamespaceValue(ctx) || pods == nil {
		return false
	}
	obj, err := pods.Get(ctx, e.TargetRef.Name, &metav1.GetOptions{})
	if err != nil {
		return false
	}
	pod, ok := obj.(*corev1.Pod)
	return ok && slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return ip.IP == e.Addresses[0] })
}
