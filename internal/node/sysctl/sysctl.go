// Package sysctl says which kernel settings the Pods of a node may change.
//
// A setting is safe when the kernel keeps a value of it for each namespace and a Pod that changes its own does not
// touch its neighbours. Those are open to all. What else may be set is the node's administrator's to say
// (allowedUnsafeSysctls), as long as the kernel keeps it by namespace.
package sysctl

import (
	"fmt"
	"regexp"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
	sysctlutil "k8s.io/component-helpers/node/util/sysctl"

	"podium.dev/podium/internal/node/pod"
)

// forbidden is the reason of a Pod that was refused for a setting.
const forbidden = "SysctlForbidden"

// safe are the settings open to all Pods, with the kernel that first kept each by namespace; "" is any that can
// run Pods. The list is that of the Kubernetes documentation, "Using sysctls in a Kubernetes Cluster".
var safe = map[string]string{
	"kernel.shm_rmid_forced":              "",
	"net.ipv4.ip_local_port_range":        "",
	"net.ipv4.tcp_syncookies":             "",
	"net.ipv4.ping_group_range":           "",
	"net.ipv4.ip_unprivileged_port_start": "",
	"net.ipv4.ip_local_reserved_ports":    "3.16",
	"net.ipv4.tcp_keepalive_time":         "4.5",
	"net.ipv4.tcp_keepalive_intvl":        "4.5",
	"net.ipv4.tcp_keepalive_probes":       "4.5",
	"net.ipv4.tcp_fin_timeout":            "4.6",
	"net.ipv4.tcp_notsent_lowat":          "4.6",
	"net.ipv4.tcp_rmem":                   "4.15",
	"net.ipv4.tcp_wmem":                   "4.15",
	"net.ipv4.tcp_slow_start_after_idle":  "4.15",
}

// The form of what an administrator may allow: a name, or the beginning of names and a star.
const (
	maxLength = 253
	form      = `([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]`
)

var wellFormed = regexp.MustCompile("^" + form + "$")

// Allowed are the settings that Pods of a node may change, by the namespace the kernel keeps each for.
type Allowed struct {
	names, prefixes map[string]sysctlutil.Namespace
}

// New returns what a node with this kernel release allows: what is safe there, and what matches the unsafe
// names and patterns (ending in *). A pattern that is malformed or not known to be kept by namespace is an error.
func New(unsafe []string, kernel string) (*Allowed, error) {
	a := &Allowed{names: map[string]sysctlutil.Namespace{}, prefixes: map[string]sysctlutil.Namespace{}}
	running, err := version.ParseGeneric(kernel)
	for name, since := range safe {
		if since == "" || (err == nil && running.AtLeast(version.MustParseGeneric(since))) {
			a.names[name], _, _ = sysctlutil.GetNamespace(name)
		}
	}
	for _, pattern := range unsafe {
		if len(pattern) > maxLength || !wellFormed.MatchString(pattern) {
			return nil, fmt.Errorf("sysctl %q must have at most %d characters and match regex %s", pattern, maxLength, form)
		}
		namespace, name, prefix := sysctlutil.GetNamespace(pattern)
		switch {
		case namespace == sysctlutil.UnknownNamespace:
			return nil, fmt.Errorf("the sysctls %q are not known to be namespaced", name)
		case prefix:
			a.prefixes[name] = namespace
		default:
			a.names[name] = namespace
		}
	}
	return a, nil
}

// Admit answers which of its settings keeps the Pod from this node, nil when none does.
func (a *Allowed) Admit(p *v1.Pod, _ []*v1.Pod) *pod.Verdict {
	if p.Spec.SecurityContext == nil {
		return nil
	}
	for _, s := range p.Spec.SecurityContext.Sysctls {
		if why := a.refusal(p, sysctlutil.NormalizeName(s.Name)); why != "" {
			return &pod.Verdict{Reason: forbidden, Message: "forbidden sysctl: " + why}
		}
	}
	return nil
}

// refusal is why the Pod may not change the setting, "" when it may. What the Pod shares with the host is not its
// to change, allowed or not.
func (a *Allowed) refusal(p *v1.Pod, name string) string {
	namespace, ok := a.namespace(name)
	if !ok {
		return fmt.Sprintf("%q not allowlisted", name)
	}
	hostUsers := p.Spec.HostUsers == nil || *p.Spec.HostUsers
	switch {
	case namespace == sysctlutil.IPCNamespace && p.Spec.HostIPC,
		namespace == sysctlutil.NetNamespace && p.Spec.HostNetwork,
		namespace == sysctlutil.UserNamespace && hostUsers:
		return fmt.Sprintf("%q not allowed with host %s enabled", name, namespace)
	}
	return ""
}

// namespace is the one that the kernel keeps an allowed setting for; ok is false for one that is not allowed.
func (a *Allowed) namespace(name string) (of sysctlutil.Namespace, ok bool) {
	if of, ok = a.names[name]; ok {
		return of, true
	}
	for prefix, of := range a.prefixes {
		if strings.HasPrefix(name, prefix) {
			return of, true
		}
	}
	return "", false
}
