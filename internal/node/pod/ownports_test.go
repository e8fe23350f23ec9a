package pod

import (
	"net/netip"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestAdmitPorts(t *testing.T) {
	admit := AdmitPorts([]OwnPort{
		{"the API server", netip.MustParseAddrPort("127.0.0.1:6443")},
		{"the node's server", netip.MustParseAddrPort("[::]:10250")},
	})
	for name, tc := range map[string]struct {
		port v1.ContainerPort
		want string
	}{
		"none":                          {v1.ContainerPort{ContainerPort: 6443}, ""},
		"another":                       {v1.ContainerPort{HostPort: 6444}, ""},
		"the API's":                     {v1.ContainerPort{HostPort: 6443, Protocol: v1.ProtocolTCP}, "the API server"},
		"the API's, no protocol":        {v1.ContainerPort{HostPort: 6443}, "the API server"},
		"the API's by UDP":              {v1.ContainerPort{HostPort: 6443, Protocol: v1.ProtocolUDP}, ""},
		"the API's by SCTP":             {v1.ContainerPort{HostPort: 6443, Protocol: v1.ProtocolSCTP}, ""},
		"the API's on its address":      {v1.ContainerPort{HostPort: 6443, HostIP: "127.0.0.1"}, "the API server"},
		"the API's on all addresses":    {v1.ContainerPort{HostPort: 6443, HostIP: "0.0.0.0"}, "the API server"},
		"the API's on another address":  {v1.ContainerPort{HostPort: 6443, HostIP: "192.0.2.1"}, ""},
		"the node's on one address":     {v1.ContainerPort{HostPort: 10250, HostIP: "127.0.0.1"}, "the node's server"},
		"the node's on an IPv6 address": {v1.ContainerPort{HostPort: 10250, HostIP: "::1"}, "the node's server"},
	} {
		for _, init := range []bool{false, true} {
			c := []v1.Container{{Name: "c", Ports: []v1.ContainerPort{{ContainerPort: 1}, tc.port}}}
			p := &v1.Pod{Spec: v1.PodSpec{Containers: c}}
			if init {
				p.Spec = v1.PodSpec{InitContainers: c}
			}
			v := admit(p, nil)
			switch {
			case tc.want == "" && v != nil:
				t.Errorf("%s: refused: %s", name, v.Message)
			case tc.want != "" && (v == nil || v.Reason != "NodePorts" || !strings.Contains(v.Message, tc.want)):
				t.Errorf("%s: %+v, want %s", name, v, tc.want)
			}
		}
	}
}
