package pod

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	netutils "k8s.io/utils/net"
)

// address finds Pods' own addresses.
type address struct {
	pods      podGetter
	transport http.RoundTripper
}

// locate returns the address that an id stands for. Without a port it is the first that the Pod's
// containers name.
func (r address) locate(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, nil, errors.NewBadRequest(fmt.Sprintf("invalid pod request %q", id))
	}
	pod, err := getPod(ctx, r.pods, name)
	if err != nil {
		return nil, nil, err
	}
	if port == "" {
		port = firstPort(pod)
	}
	ip := ""
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	// The API server's own host and network are not to be reached this way.
	if parsed := netutils.ParseIPSloppy(ip); parsed == nil || !parsed.IsGlobalUnicast() {
		return nil, nil, errors.NewBadRequest("address not allowed")
	}
	host := ip
	switch {
	case port != "":
		host = net.JoinHostPort(ip, port)
	case strings.Contains(ip, ":"):
		host = "[" + ip + "]"
	}
	return &url.URL{Scheme: scheme, Host: host}, r.transport, nil
}

func firstPort(pod *corev1.Pod) string {
	for i := range pod.Spec.Containers {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			return strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	return ""
}
