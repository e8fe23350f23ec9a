package sysctl

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestAdmit(t *testing.T) {
	hostNetwork := func(s *v1.PodSpec) { s.HostNetwork = true }
	hostIPC := func(s *v1.PodSpec) { s.HostIPC = true }
	ownUsers := func(s *v1.PodSpec) { s.HostUsers = ptr.To(false) }
	for name, tc := range map[string]struct {
		sysctl, kernel string
		unsafe         []string
		change         func(*v1.PodSpec)
		want           string // "" is that the Pod is taken in
	}{
		"safe":                         {sysctl: "kernel.shm_rmid_forced"},
		"safe, with slashes":           {sysctl: "kernel/shm_rmid_forced"},
		"unsafe":                       {sysctl: "kernel.msgmax", want: `forbidden sysctl: "kernel.msgmax" not allowlisted`},
		"not namespaced":               {sysctl: "vm.swappiness", want: `forbidden sysctl: "vm.swappiness" not allowlisted`},
		"unsafe, allowed":              {sysctl: "kernel.msgmax", unsafe: []string{"kernel.msgmax"}},
		"unsafe, allowed by a pattern": {sysctl: "net/ipv4/ip_forward", unsafe: []string{"net.ipv4.*"}},
		"beside the pattern":           {sysctl: "net.core.somaxconn", unsafe: []string{"net.ipv4.*"}, want: `forbidden sysctl: "net.core.somaxconn" not allowlisted`},
		"of the host's network":        {sysctl: "net.ipv4.tcp_syncookies", change: hostNetwork, want: `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled`},
		"of the host's IPC":            {sysctl: "kernel.shm_rmid_forced", change: hostIPC, want: `forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host IPC enabled`},
		"another namespace than the host's": {
			sysctl: "kernel.shm_rmid_forced", change: hostNetwork,
		},
		"of the host's users": {
			sysctl: "user.max_user_namespaces", unsafe: []string{"user.*"},
			want: `forbidden sysctl: "user.max_user_namespaces" not allowed with host User enabled`,
		},
		"of its own users":    {sysctl: "user.max_user_namespaces", unsafe: []string{"user.*"}, change: ownUsers},
		"new enough a kernel": {sysctl: "net.ipv4.tcp_rmem", kernel: "4.15.0-1-amd64"},
		"too old a kernel":    {sysctl: "net.ipv4.tcp_rmem", kernel: "4.14.9", want: `forbidden sysctl: "net.ipv4.tcp_rmem" not allowlisted`},
	} {
		t.Run(name, func(t *testing.T) {
			kernel := tc.kernel
			if kernel == "" {
				kernel = "6.18.44-cloud"
			}
			a, err := New(tc.unsafe, kernel)
			if err != nil {
				t.Fatal(err)
			}
			p := &v1.Pod{Spec: v1.PodSpec{SecurityContext: &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: tc.sysctl, Value: "1"}}}}}
			if tc.change != nil {
				tc.change(&p.Spec)
			}
			v := a.Admit(p, nil)
			switch {
			case tc.want == "" && v != nil:
				t.Errorf("refused: %s", v.Message)
			case tc.want != "" && (v == nil || v.Message != tc.want || v.Reason != "SysctlForbidden"):
				t.Errorf("got %+v, want %q", v, tc.want)
			}
		})
	}
	a, err := New(nil, "6.1")
	if err != nil {
		t.Fatal(err)
	}
	if v := a.Admit(&v1.Pod{}, nil); v != nil {
		t.Errorf("a Pod without settings is refused: %s", v.Message)
	}
}

func TestWhatCannotBeAllowed(t *testing.T) {
	for pattern, want := range map[string]string{
		"vm.swappiness":          "not known to be namespaced",
		"*":                      "not known to be namespaced",
		"net.*.foo":              "match regex",
		"Net.core":               "match regex",
		strings.Repeat("a", 254): "at most 253",
	} {
		if _, err := New([]string{pattern}, "6.1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want an error with %q", pattern, err, want)
		}
	}
}
