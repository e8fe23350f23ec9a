package container

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type oneCgroup struct{ err error }

func (o oneCgroup) Ensure(*v1.Pod) (string, error) { return "/kubepods/poduid", o.err }
func (o oneCgroup) Remove(types.UID) error         { return nil }

func TestSandbox(t *testing.T) {
	r := newRig(t)
	r.cfg.Cgroups = oneCgroup{}
	pod := newPod()
	pod.Spec.SecurityContext = &v1.PodSecurityContext{
		RunAsUser: ptr[int64](1), FSGroup: ptr[int64](2), SupplementalGroups: []int64{3}, SupplementalGroupsPolicy: ptr(v1.SupplementalGroupsPolicyStrict),
		Sysctls: []v1.Sysctl{{Name: "kernel.shm_rmid_forced", Value: "1"}},
	}
	pod.Spec.Containers[0].Ports = []v1.ContainerPort{
		{Name: "a", ContainerPort: 80, HostPort: 8080, Protocol: v1.ProtocolUDP}, {Name: "a", ContainerPort: 81},
		{ContainerPort: 90, HostPort: 90, HostIP: "127.0.0.1"}, {ContainerPort: 90, HostPort: 90, HostIP: "::1"},
	}
	pod.Spec.Containers[0].Resources.Limits = v1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi")}
	pod.Spec.Overhead = v1.ResourceList{"cpu": resource.MustParse("100m")}
	got, err := r.Sandbox(pod, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got.Metadata.Attempt != 3 || got.Hostname != "p" || got.Labels["app"] != "x" || got.Labels[LabelPodUID] != "uid" || got.Annotations["note"] != "y" {
		t.Errorf("got %v", got)
	}
	if _, err := os.Stat(got.LogDirectory); err != nil || !strings.HasSuffix(got.LogDirectory, "/ns_p_uid") {
		t.Errorf("logs in %s: %v", got.LogDirectory, err)
	}
	if len(got.PortMappings) != 3 || got.PortMappings[0].Protocol != runtimeapi.Protocol_UDP || got.PortMappings[0].HostPort != 8080 {
		t.Errorf("ports %v", got.PortMappings)
	}
	l := got.Linux
	if l.CgroupParent != "/kubepods/poduid" || l.Sysctls["kernel.shm_rmid_forced"] != "1" || l.Resources.CpuQuota != 200000 || l.Resources.CpuShares != 2048 ||
		l.Resources.MemoryLimitInBytes != 1<<30 || l.Overhead.CpuShares != 102 {
		t.Errorf("linux %v", l)
	}
	sc := l.SecurityContext
	if sc.RunAsUser.Value != 1 || !slices.Equal(sc.SupplementalGroups, []int64{2, 3}) || sc.SupplementalGroupsPolicy != runtimeapi.SupplementalGroupsPolicy_Strict ||
		sc.Seccomp.ProfileType != runtimeapi.SecurityProfile_RuntimeDefault {
		t.Errorf("security %v", sc)
	}
	r.cfg.Cgroups = oneCgroup{errors.New("no cgroups")}
	if _, err := r.Sandbox(pod, 0); err == nil || Reason(err) != "CreatePodSandboxError" {
		t.Errorf("got %v", err)
	}
}

func TestNamespaces(t *testing.T) {
	r := newRig(t)
	const node, own, single = runtimeapi.NamespaceMode_NODE, runtimeapi.NamespaceMode_POD, runtimeapi.NamespaceMode_CONTAINER
	for _, tc := range []struct {
		name              string
		spec              v1.PodSpec
		network, ipc, pid runtimeapi.NamespaceMode
	}{
		{"own", v1.PodSpec{}, own, own, single},
		{"node's", v1.PodSpec{HostNetwork: true, HostIPC: true, HostPID: true, ShareProcessNamespace: ptr(true)}, node, node, node},
		{"shared processes", v1.PodSpec{ShareProcessNamespace: ptr(true)}, own, own, own},
	} {
		got, err := r.namespaces(&v1.Pod{Spec: tc.spec})
		if err != nil || got.Network != tc.network || got.Ipc != tc.ipc || got.Pid != tc.pid || got.UsernsOptions.Mode != node {
			t.Errorf("%s: %v, %v", tc.name, got, err)
		}
	}
	in := Input{Pod: newPod(), Container: &v1.Container{}, TargetID: "t"}
	if sc, err := r.security(in); err != nil || sc.NamespaceOptions.Pid != runtimeapi.NamespaceMode_TARGET || sc.NamespaceOptions.TargetId != "t" {
		t.Errorf("target: %v, %v", sc, err)
	}
}

func TestUsersOfTheirOwn(t *testing.T) {
	r := newRig(t)
	first := func(uid types.UID) uint32 {
		t.Helper()
		pod := newPod()
		pod.UID, pod.Spec.HostUsers = uid, ptr(false)
		o, err := r.namespaces(pod)
		if err != nil {
			t.Fatal(err)
		}
		u := o.UsernsOptions
		if u.Mode != runtimeapi.NamespaceMode_POD || len(u.Uids) != 1 || u.Uids[0].Length != 65536 || u.Gids[0].HostId != u.Uids[0].HostId {
			t.Errorf("%v", u)
		}
		return u.Uids[0].HostId
	}
	if a, b, again := first("a"), first("b"), first("a"); a != 65536 || b != 131072 || again != a {
		t.Errorf("ranges from %d, %d and %d", a, b, again)
	}
	if err := os.RemoveAll(r.cfg.Paths.Kubelet + "/pods/a"); err != nil {
		t.Fatal(err)
	}
	if c := first("c"); c != 65536 {
		t.Errorf("a range that is free was not taken: %d", c)
	}
}

func TestHostname(t *testing.T) {
	long := strings.Repeat("a", 62) + "-bcd"
	for _, tc := range []struct {
		name              string
		pod               v1.PodSpec
		podName           string
		host, domain, all string
		fails             string
	}{
		{"name", v1.PodSpec{}, "p", "p", "", "p", ""},
		{"own", v1.PodSpec{Hostname: "h", Subdomain: "s"}, "p", "h", "s.ns.svc.cluster.local", "h", ""},
		{"full", v1.PodSpec{Hostname: "h", Subdomain: "s", SetHostnameAsFQDN: ptr(true)}, "p", "h", "s.ns.svc.cluster.local", "h.s.ns.svc.cluster.local", ""},
		{"cut", v1.PodSpec{}, long, strings.Repeat("a", 62), "", strings.Repeat("a", 62), ""},
		{"override", v1.PodSpec{Hostname: "h", Subdomain: "s", HostnameOverride: ptr("x.y")}, "p", "x.y", "", "x.y", ""},
		{"wrong", v1.PodSpec{Hostname: "H"}, "p", "", "", "", `pod Hostname "H" is not a valid DNS label`},
		{"too long", v1.PodSpec{Subdomain: strings.Repeat("s", 60), SetHostnameAsFQDN: ptr(true)}, "p", "p", strings.Repeat("s", 60) + ".ns.svc.cluster.local", "", "failed to construct FQDN from pod hostname and cluster domain"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := newPod()
			pod.Name = tc.podName
			pod.Spec.Hostname, pod.Spec.Subdomain, pod.Spec.HostnameOverride, pod.Spec.SetHostnameAsFQDN = tc.pod.Hostname, tc.pod.Subdomain, tc.pod.HostnameOverride, tc.pod.SetHostnameAsFQDN
			host, domain, err := Hostname(pod, "cluster.local")
			all := ""
			if err == nil {
				all, err = kernelHostname(pod, host, domain)
			}
			if host != tc.host || domain != tc.domain || all != tc.all || (err == nil) != (tc.fails == "") || (err != nil && !strings.HasPrefix(err.Error(), tc.fails)) {
				t.Errorf("%q in %q, %q: %v", host, domain, all, err)
			}
		})
	}
}

func TestDNS(t *testing.T) {
	cluster := []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "host.example"}
	for _, tc := range []struct {
		name                       string
		change                     func(*rig, *v1.Pod)
		servers, searches, options []string
		event                      string
	}{
		{"cluster first", func(*rig, *v1.Pod) {}, []string{"10.96.0.10"}, cluster, []string{"ndots:5"}, ""},
		{"default", func(_ *rig, p *v1.Pod) { p.Spec.DNSPolicy = v1.DNSDefault }, []string{"9.9.9.9"}, []string{"host.example"}, []string{"timeout:2"}, ""},
		{"cluster first in the host's network", func(_ *rig, p *v1.Pod) { p.Spec.HostNetwork = true }, []string{"9.9.9.9"}, []string{"host.example"}, []string{"timeout:2"}, ""},
		{"cluster first with host network", func(_ *rig, p *v1.Pod) { p.Spec.HostNetwork, p.Spec.DNSPolicy = true, v1.DNSClusterFirstWithHostNet }, []string{"10.96.0.10"}, cluster, []string{"ndots:5"}, ""},
		{"none", func(_ *rig, p *v1.Pod) {
			p.Spec.DNSPolicy = v1.DNSNone
			p.Spec.DNSConfig = &v1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Searches: []string{"a"}, Options: []v1.PodDNSConfigOption{{Name: "x"}}}
		}, []string{"1.1.1.1"}, []string{"a"}, []string{"x"}, ""},
		{"merged", func(_ *rig, p *v1.Pod) {
			p.Spec.DNSConfig = &v1.PodDNSConfig{Nameservers: []string{"10.96.0.10", "1.1.1.1"}, Searches: []string{"cluster.local", "a"}, Options: []v1.PodDNSConfigOption{{Name: "ndots", Value: ptr("2")}, {Name: "edns0"}}}
		}, []string{"10.96.0.10", "1.1.1.1"}, append(slices.Clone(cluster), "a"), []string{"ndots:2", "edns0"}, ""},
		{"too many servers", func(_ *rig, p *v1.Pod) {
			p.Spec.DNSConfig = &v1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "2.2.2.2", "3.3.3.3"}}
		}, []string{"10.96.0.10", "1.1.1.1", "2.2.2.2"}, cluster, []string{"ndots:5"},
			"Warning DNSConfigForming Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 10.96.0.10 1.1.1.1 2.2.2.2"},
		{"no cluster DNS", func(r *rig, _ *v1.Pod) { r.kubelet.ClusterDNS = nil }, []string{"9.9.9.9"}, []string{"host.example"}, []string{"timeout:2"},
			`Warning MissingClusterDNS pod: "p_ns(uid)". kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.`},
		{"no cluster DNS, but none is asked for", func(r *rig, p *v1.Pod) { r.kubelet.ClusterDNS, p.Spec.DNSPolicy = nil, v1.DNSDefault }, []string{"9.9.9.9"}, []string{"host.example"}, []string{"timeout:2"}, ""},
		{"no resolver", func(r *rig, p *v1.Pod) { r.kubelet.ResolverConfig, p.Spec.DNSPolicy = ptr(""), v1.DNSDefault }, []string{"127.0.0.1"}, []string{"."}, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			pod := newPod()
			tc.change(r, pod)
			got, err := r.dns(pod)
			if len(r.kubelet.ClusterDNS) == 0 && tc.event != "" {
				if node := <-r.events.Events; node != strings.Replace(tc.event, `pod: "p_ns(uid)". `, "", 1) {
					t.Errorf("event of the node %q", node)
				}
			}
			if err != nil || !slices.Equal(got.Servers, tc.servers) || !slices.Equal(got.Searches, tc.searches) || !slices.Equal(got.Options, tc.options) {
				t.Errorf("%v, %v", got, err)
			}
			event := ""
			select {
			case event = <-r.events.Events:
			default:
			}
			if event != tc.event {
				t.Errorf("event %q", event)
			}
		})
	}
}

func TestFitSearches(t *testing.T) {
	many := make([]string, 40)
	for i := range many {
		many[i] = "d"
	}
	long := strings.Repeat("x", 254)
	wide := make([]string, 10)
	for i := range wide {
		wide[i] = strings.Repeat("y", 250)
	}
	for _, tc := range []struct {
		name string
		in   []string
		want int
		warn bool
	}{
		{"few", []string{"a", "b"}, 2, false},
		{"many", many, 32, true},
		{"one too long", []string{"a", long, "b"}, 2, true},
		{"line too long", wide, 8, true},
	} {
		got, warnings := fitSearches(tc.in, nil)
		if len(got) != tc.want || (len(warnings) > 0) != tc.warn {
			t.Errorf("%s: %d, %v", tc.name, len(got), warnings)
		}
	}
}
