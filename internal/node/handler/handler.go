// Package handler is the part of a container's handlers that probes and lifecycle hooks share: the number of the
// port, the HTTP request, and how a connection is opened and closed.
package handler

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/component-base/version"
)

// Port returns the number of the port that an action gives as a number or as the name of one of the container's ports.
func Port(param intstr.IntOrString, container *v1.Container) (int, error) {
	port := param.IntValue()
	if param.Type == intstr.String {
		named := false
		for _, p := range container.Ports {
			if p.Name == param.StrVal {
				port, named = int(p.ContainerPort), true
				break
			}
		}
		if !named {
			return 0, fmt.Errorf("port %q not found", param.StrVal)
		}
	}
	if port <= 0 || port > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", port)
	}
	return port, nil
}

// UserAgent returns the User-Agent header of a request for the purpose "probe" or "lifecycle". Servers recognize
// the probes of a kubelet by it.
func UserAgent(purpose string) string {
	return "kube-" + purpose + "/" + version.DefaultKubeBinaryVersion
}

// Request returns the request of an httpGet action. It is sent to podIP unless the action names a host.
func Request(ctx context.Context, get *v1.HTTPGetAction, container *v1.Container, podIP, purpose string) (*http.Request, error) {
	port, err := Port(get.Port, container)
	if err != nil {
		return nil, err
	}
	host := get.Host
	if host == "" {
		host = podIP
	}
	target, err := url.Parse(get.Path)
	if err != nil {
		// A path that is not a URL is sent unchanged: the server decides about it.
		target = &url.URL{Path: get.Path}
	}
	target.Scheme = strings.ToLower(string(get.Scheme))
	if target.Scheme == "" {
		target.Scheme = "http"
	}
	target.Host = net.JoinHostPort(host, strconv.Itoa(port))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	setHeaders(request, get.HTTPHeaders, purpose)
	return request, nil
}

// setHeaders sets the action's headers. User-Agent and Accept have defaults; an empty Accept removes the header.
func setHeaders(request *http.Request, list []v1.HTTPHeader, purpose string) {
	for _, h := range list {
		request.Header.Add(h.Name, h.Value)
	}
	if _, ok := request.Header["User-Agent"]; !ok {
		request.Header.Set("User-Agent", UserAgent(purpose))
	}
	if _, ok := request.Header["Accept"]; !ok {
		request.Header.Set("Accept", "*/*")
	} else if request.Header.Get("Accept") == "" {
		request.Header.Del("Accept")
	}
	request.Host = request.Header.Get("Host")
}

// Dialer returns a dialer whose closed connections linger for one second only, because sockets that wait longer would
// use up the host's ports when there are many probes.
func Dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 1})
		})
		if err == nil {
			err = failed
		}
		return err
	}}
}
