// Package handler speaks to containers as probes and lifecycle hooks have it in common: which port is meant,
// what an HTTP request looks like, how a connection is opened and closed.
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

// Port answers with the number of a port that an action names by number, or by its name in the container.
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

// UserAgent is what a request with a purpose ("probe", "lifecycle") says it comes from: servers know the
// probes of a kubelet by it.
func UserAgent(purpose string) string {
	return "kube-" + purpose + "/" + version.DefaultKubeBinaryVersion
}

// Request is the request of an httpGet action; podIP is where it goes without a host of its own.
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
		// A path that is no URL goes as it is: it is the server's to judge.
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

// setHeaders sets the action's headers. User-Agent and Accept have defaults; an empty Accept is none.
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

// Dialer opens connections that leave a socket waiting for a second only: probes would use up a host's ports.
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
