package container

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Limits of a resolver's configuration, as the API server's validation has them.
const (
	maxNameservers  = 3
	maxSearches     = 32
	maxSearchLine   = 2048
	maxResolverFile = 10 << 20
)

// missingClusterDNS is the reason of the event of a Pod that is to use the cluster's DNS where there is none.
const missingClusterDNS = "MissingClusterDNS"

// dns is the resolver's configuration of a Pod, by its policy and its own dnsConfig, within limits.
func (b *Builder) dns(pod *v1.Pod) (*runtimeapi.DNSConfig, error) {
	config, err := b.policyDNS(pod)
	if err != nil {
		return nil, err
	}
	if own := pod.Spec.DNSConfig; own != nil {
		config.Servers = distinct(append(config.Servers, own.Nameservers...))
		config.Searches = distinct(append(config.Searches, own.Searches...))
		config.Options = mergeOptions(config.Options, podOptions(own))
	}
	for _, word := range slices.Concat(config.Servers, config.Searches, config.Options) {
		if err := oneLine(word); err != nil {
			return nil, fmt.Errorf("dnsConfig: %w", err)
		}
	}
	var warnings []string
	config.Servers, warnings = fitServers(config.Servers, warnings)
	config.Searches, warnings = fitSearches(config.Searches, warnings)
	for _, w := range warnings {
		b.event(pod, "DNSConfigForming", w)
	}
	return config, nil
}

func (b *Builder) policyDNS(pod *v1.Pod) (*runtimeapi.DNSConfig, error) {
	policy := pod.Spec.DNSPolicy
	if policy == v1.DNSNone {
		return &runtimeapi.DNSConfig{}, nil
	}
	host, err := readResolver(b.resolverFile())
	if err != nil {
		return nil, err
	}
	if policy == v1.DNSDefault || (policy == v1.DNSClusterFirst && pod.Spec.HostNetwork) {
		return b.hostDNS(host), nil
	}
	kubelet := b.cfg.Kubelet
	if len(kubelet.ClusterDNS) == 0 {
		b.missingClusterDNS(pod)
		return b.hostDNS(host), nil
	}
	return &runtimeapi.DNSConfig{
		Servers:  append([]string(nil), kubelet.ClusterDNS...),
		Searches: clusterSearches(host.Searches, pod.Namespace, kubelet.ClusterDomain),
		Options:  []string{"ndots:5"},
	}, nil
}

// missingClusterDNS records that the Pod gets the node's resolver instead of the cluster's, in the kubelet's words. The
// event of the node is recorded once, not for each Pod: the budget of events that an object has (25, and one more each
// five minutes, in client-go) is needed for what happens to the node.
func (b *Builder) missingClusterDNS(pod *v1.Pod) {
	words := fmt.Sprintf("kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.",
		v1.DNSClusterFirst, v1.DNSDefault)
	b.missingDNS.Do(func() {
		if b.cfg.Recorder != nil && b.cfg.Node != nil {
			b.cfg.Recorder.Event(b.cfg.Node(), v1.EventTypeWarning, missingClusterDNS, words)
		}
	})
	b.event(pod, missingClusterDNS, fmt.Sprintf("pod: %q. %s", describe(pod), words))
}

// describe names a Pod as the kubelet's messages do: NAME_NAMESPACE(UID).
func describe(pod *v1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}

func (b *Builder) resolverFile() string {
	if b.cfg.Kubelet.ResolverConfig == nil {
		return "/etc/resolv.conf"
	}
	return *b.cfg.Kubelet.ResolverConfig
}

// hostDNS is the node's own configuration. Settings that name no resolver file turn lookups off: to the
// resolver library, no name server means the one of the local machine.
func (b *Builder) hostDNS(host *runtimeapi.DNSConfig) *runtimeapi.DNSConfig {
	if b.resolverFile() != "" {
		return host
	}
	for _, ip := range b.hostIPs() {
		if parsed := net.ParseIP(ip); parsed != nil && parsed.To4() == nil {
			host.Servers = append(host.Servers, "::1")
		} else {
			host.Servers = append(host.Servers, "127.0.0.1")
		}
	}
	if len(host.Servers) == 0 {
		host.Servers = []string{"127.0.0.1"}
	}
	host.Searches = []string{"."}
	return host
}

func (b *Builder) hostIPs() []string {
	if b.cfg.HostIPs == nil {
		return nil
	}
	return b.cfg.HostIPs()
}

// clusterSearches puts the cluster's domains before the node's.
func clusterSearches(host []string, namespace, domain string) []string {
	if domain == "" {
		return host
	}
	return distinct(append([]string{namespace + ".svc." + domain, "svc." + domain, domain}, host...))
}

// readResolver reads a file of resolv.conf's form; "" is an empty one.
func readResolver(file string) (*runtimeapi.DNSConfig, error) {
	if file == "" {
		return &runtimeapi.DNSConfig{}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxResolverFile))
	if err != nil {
		return nil, fmt.Errorf("read resolver file %s: %w", file, err)
	}
	return parseResolver(string(content))
}

// parseResolver takes every name server, the last search line, and the last value of each option.
func parseResolver(content string) (*runtimeapi.DNSConfig, error) {
	config := &runtimeapi.DNSConfig{}
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if len(fields) < 2 {
				//lint:ignore ST1005 these are Kubernetes' words
				return nil, fmt.Errorf("Encountered error while parsing resolv conf file. Error: nameserver list is empty ")
			}
			config.Servers = append(config.Servers, fields[1])
		case "search":
			config.Searches = nil
			for _, s := range fields[1:] {
				if s != "." {
					config.Searches = append(config.Searches, strings.TrimSuffix(s, "."))
				}
			}
		case "options":
			config.Options = mergeOptions(config.Options, fields[1:])
		}
	}
	return config, nil
}

// mergeOptions adds options, each taking the place of one with its name.
func mergeOptions(options, more []string) []string {
	var merged []string
	place := map[string]int{}
	for _, option := range append(append([]string(nil), options...), more...) {
		name, _, _ := strings.Cut(option, ":")
		if at, ok := place[name]; ok {
			merged[at] = option
			continue
		}
		place[name] = len(merged)
		merged = append(merged, option)
	}
	return merged
}

func podOptions(config *v1.PodDNSConfig) []string {
	var options []string
	for _, o := range config.Options {
		if o.Value != nil && *o.Value != "" {
			options = append(options, o.Name+":"+*o.Value)
		} else {
			options = append(options, o.Name)
		}
	}
	return options
}

func distinct(list []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

func fitServers(servers, warnings []string) ([]string, []string) {
	if len(servers) <= maxNameservers {
		return servers, warnings
	}
	servers = servers[:maxNameservers]
	return servers, append(warnings, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "+strings.Join(servers, " "))
}

// fitSearches drops what goes beyond the limits: domains beyond the count, too long ones, and from the end
// what makes the line too long.
func fitSearches(searches, warnings []string) ([]string, []string) {
	fit := searches[:min(len(searches), maxSearches)]
	var kept []string
	length := -1
	for _, s := range fit {
		if len(s) > validation.DNS1123SubdomainMaxLength {
			continue
		}
		if length+1+len(s) > maxSearchLine {
			break
		}
		length += 1 + len(s)
		kept = append(kept, s)
	}
	if len(kept) == len(searches) {
		return searches, warnings
	}
	return kept, append(warnings, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+strings.Join(kept, " "))
}
