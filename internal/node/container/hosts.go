package container

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/poddir"
)

const etcHosts = "/etc/hosts"

// hostsMount writes the Pod's hosts file and returns its mount; nil where the Pod's address is not
// known yet.
func (b *Builder) hostsMount(pod *v1.Pod, podIPs []string) (*runtimeapi.Mount, error) {
	if len(podIPs) == 0 && !pod.Spec.HostNetwork {
		return nil, nil
	}
	name, domain, err := Hostname(pod, b.cfg.Kubelet.ClusterDomain)
	if err != nil {
		return nil, err
	}
	for i, a := range pod.Spec.HostAliases {
		for _, word := range append([]string{a.IP}, a.Hostnames...) {
			if err := oneWord(word); err != nil {
				return nil, fmt.Errorf("hostAliases[%d]: %w", i, err)
			}
		}
	}
	content := managedHosts(podIPs, name, domain, pod.Spec.HostAliases)
	if pod.Spec.HostNetwork {
		node, err := os.ReadFile(etcHosts)
		if err != nil {
			return nil, err
		}
		content = hostNetworkHosts(node, pod.Spec.HostAliases)
	}
	file := poddir.Hosts(b.cfg.Paths, pod.UID)
	if err := os.MkdirAll(poddir.Dir(b.cfg.Paths, pod.UID), 0o750); err != nil {
		return nil, err
	}
	if err := writeMode(file, content, 0o644); err != nil {
		return nil, err
	}
	return &runtimeapi.Mount{ContainerPath: etcHosts, HostPath: file, SelinuxRelabel: selinuxEnabled()}, nil
}

// writeMode writes a file in place, so that containers that have it mounted see the change, with just that mode.
func writeMode(file string, content []byte, mode os.FileMode) error {
	if err := os.WriteFile(file, content, mode); err != nil {
		return err
	}
	return os.Chmod(file, mode)
}

// managedHosts is the hosts file of a Pod with a network of its own.
func managedHosts(ips []string, name, domain string, aliases []v1.HostAlias) []byte {
	var b bytes.Buffer
	b.WriteString("# Kubernetes-managed hosts file.\n" +
		"127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::0\tip6-localnet\n" +
		"fe00::0\tip6-mcastprefix\n" +
		"fe00::1\tip6-allnodes\n" +
		"fe00::2\tip6-allrouters\n")
	for _, ip := range ips {
		if domain != "" {
			fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, name, domain, name)
		} else {
			fmt.Fprintf(&b, "%s\t%s\n", ip, name)
		}
	}
	writeAliases(&b, aliases)
	return b.Bytes()
}

// hostNetworkHosts is the hosts file of a Pod in the node's network: the node's own and the Pod's aliases.
func hostNetworkHosts(node []byte, aliases []v1.HostAlias) []byte {
	var b bytes.Buffer
	b.WriteString("# Kubernetes-managed hosts file (host network).\n")
	b.Write(node)
	writeAliases(&b, aliases)
	return b.Bytes()
}

func writeAliases(b *bytes.Buffer, aliases []v1.HostAlias) {
	if len(aliases) == 0 {
		return
	}
	b.WriteString("\n# Entries added by HostAliases.\n")
	for _, a := range aliases {
		fmt.Fprintf(b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
}
