package network

import (
	"net/netip"
	"reflect"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func prefixes(all ...string) (out []netip.Prefix) {
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestFreeCIDR(t *testing.T) {
	for name, tc := range map[string]struct {
		used []netip.Prefix
		want string
	}{
		"nothing used":                 {nil, "10.244.0.0/24"},
		"other nets":                   {prefixes("192.168.0.0/16", "172.17.0.0/16"), "10.244.0.0/24"},
		"neighbours":                   {prefixes("10.244.0.0/24", "10.244.1.0/25"), "10.244.2.0/24"},
		"a whole 16":                   {prefixes("10.244.0.0/16"), "10.245.0.0/24"},
		"a VPN to all of 10":           {prefixes("10.0.0.0/8"), "10.244.0.0/24"},
		"a VPN to all of 10, and ours": {prefixes("10.0.0.0/8", "10.244.0.0/24"), "10.244.1.0/24"},
	} {
		got, err := freeCIDR(tc.used)
		if err != nil || got.String() != tc.want {
			t.Errorf("%s: %v, %v; want %s", name, got, err, tc.want)
		}
	}
	if _, err := freeCIDR(prefixes("10.240.0.0/13", "10.248.0.0/13", "10.0.0.0/8", "10.224.0.0/11", "10.192.0.0/10", "10.128.0.0/9")); err != nil {
		t.Errorf("only broad routes: %v", err)
	}
	var all []netip.Prefix
	for i := 244; i <= 254; i++ {
		for _, half := range []byte{0, 128} {
			all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), half, 0}), 17))
		}
	}
	if got, err := freeCIDR(all); err == nil {
		t.Errorf("nothing is free, got %s", got)
	}
}

func TestHostPortsOf(t *testing.T) {
	got, err := hostPortsOf([]*runtimeapi.PortMapping{
		{ContainerPort: 80},
		{ContainerPort: 80, HostPort: 8080},
		{ContainerPort: 80, HostPort: 8080},
		{ContainerPort: 53, HostPort: 53, Protocol: runtimeapi.Protocol_UDP, HostIp: "127.0.0.1"},
		{ContainerPort: 1, HostPort: 2, Protocol: runtimeapi.Protocol_SCTP, HostIp: "::"},
	})
	check(t, err)
	want := []hostPort{
		{Proto: 6, Host: 8080, Pod: 80},
		{Proto: 17, Host: 53, Pod: 53, HostIP: netip.MustParseAddr("127.0.0.1")},
		{Proto: 132, Host: 2, Pod: 1, HostIP: netip.MustParseAddr("::")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []*runtimeapi.PortMapping{
		{ContainerPort: 80, HostPort: 70000}, {HostPort: 80}, {ContainerPort: 80, HostPort: 80, HostIp: "localhost"}, {ContainerPort: 80, HostPort: 80, Protocol: 9},
	} {
		if _, err := hostPortsOf([]*runtimeapi.PortMapping{bad}); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

func TestTargets(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")
	any := hostPort{Proto: 6, Host: 80, Pod: 8080}
	one := hostPort{Proto: 6, Host: 81, Pod: 8080, HostIP: netip.MustParseAddr("192.0.2.2")}
	all6 := hostPort{Proto: 6, Host: 82, Pod: 8080, HostIP: netip.IPv6Unspecified()}
	got := targets([]netip.Addr{v4, v6}, []hostPort{any, one, all6})
	plain6 := all6
	plain6.HostIP = netip.Addr{}
	want := []portTarget{{any, v4}, {any, v6}, {one, v4}, {plain6, v6}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBandwidthOf(t *testing.T) {
	got, err := bandwidthOf(Request{Annotations: map[string]string{ingressAnnotation: "10M", egressAnnotation: "1Gi"}})
	check(t, err)
	if want := (Bandwidth{Ingress: 10e6, Egress: 1 << 30}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"fast", "10", "2P"} {
		if _, err := bandwidthOf(Request{Annotations: map[string]string{egressAnnotation: bad}}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestNames(t *testing.T) {
	for _, id := range []string{"podium", "podium-12345678", "podium-a-very-long-one"} {
		if name := bridgeName(id); len(name) > maxLinkName {
			t.Errorf("%s is too long for a link", name)
		}
	}
	if bridgeName("podium") != "podium" {
		t.Error("a short ID is the bridge's name as it is")
	}
	if a, b := hostLink("a"), hostLink("b"); a == b || len(a) != maxLinkName {
		t.Errorf("%s, %s", a, b)
	}
}

func TestLastOf(t *testing.T) {
	for p, want := range map[string]string{"10.1.2.0/24": "10.1.2.255", "10.1.2.8/29": "10.1.2.15", "fd00::/64": "fd00::ffff:ffff:ffff:ffff"} {
		if got := lastOf(netip.MustParsePrefix(p)); got.String() != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}
