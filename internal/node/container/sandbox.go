package container

import (
	"fmt"
	"maps"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilsnet "k8s.io/utils/net"
)

// Sandbox builds the configuration of a Pod's sandbox and makes its log folder and cgroup.
func (b *Builder) Sandbox(pod *v1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	config, err := b.sandbox(pod, attempt)
	if err != nil {
		return nil, because(ReasonSandbox, fmt.Errorf("failed to generate sandbox config for pod %q: %w", podName(pod), err))
	}
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		return nil, because(ReasonSandbox, fmt.Errorf("failed to create log directory for pod %q: %w", podName(pod), err))
	}
	if b.cfg.Cgroups != nil {
		if config.Linux.CgroupParent, err = b.cfg.Cgroups.Ensure(pod); err != nil {
			return nil, because(ReasonSandbox, fmt.Errorf("failed to ensure that the pod: %s cgroups exist and are correctly applied: %w", pod.UID, err))
		}
	}
	return config, nil
}

func (b *Builder) sandbox(pod *v1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	config := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt},
		Labels:       PodLabels(pod),
		Annotations:  maps.Clone(pod.Annotations),
		LogDirectory: b.PodLogDir(pod),
		PortMappings: portMappings(pod),
	}
	var err error
	if config.DnsConfig, err = b.dns(pod); err != nil {
		return nil, err
	}
	if !pod.Spec.HostNetwork {
		name, domain, err := Hostname(pod, b.cfg.Kubelet.ClusterDomain)
		if err != nil {
			return nil, err
		}
		if config.Hostname, err = kernelHostname(pod, name, domain); err != nil {
			return nil, err
		}
	}
	if config.Linux, err = b.sandboxLinux(pod); err != nil {
		return nil, err
	}
	return config, nil
}

func (b *Builder) sandboxLinux(pod *v1.Pod) (*runtimeapi.LinuxPodSandboxConfig, error) {
	namespaces, err := b.namespaces(pod)
	if err != nil {
		return nil, err
	}
	sc := &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: namespaces,
		Privileged:       anyPrivileged(pod),
		// The sandbox's own process needs no more than the default profile, whatever its containers need.
		Seccomp: &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
	}
	linux := &runtimeapi.LinuxPodSandboxConfig{
		SecurityContext: sc,
		Sysctls:         map[string]string{},
		Resources:       b.sandboxResources(pod),
		Overhead:        b.overhead(pod),
	}
	psc := pod.Spec.SecurityContext
	if psc == nil {
		return linux, nil
	}
	for _, s := range psc.Sysctls {
		linux.Sysctls[s.Name] = s.Value
	}
	sc.RunAsUser, sc.RunAsGroup = int64Value(psc.RunAsUser), int64Value(psc.RunAsGroup)
	sc.SelinuxOptions = selinuxOptions(psc.SELinuxOptions)
	sc.SupplementalGroups = groups(psc)
	sc.SupplementalGroupsPolicy, err = groupsPolicy(psc)
	return linux, err
}

func (b *Builder) sandboxResources(pod *v1.Pod) *runtimeapi.LinuxContainerResources {
	options := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
	requests, limits := resourcehelper.PodRequests(pod, options), resourcehelper.PodLimits(pod, options)
	request, ok := requests[v1.ResourceCPU]
	if !ok {
		request = limits[v1.ResourceCPU]
	}
	return b.linuxResources(request, limits[v1.ResourceCPU], limits[v1.ResourceMemory])
}

// overhead is what the runtime class takes besides the containers, given and limited to just that.
func (b *Builder) overhead(pod *v1.Pod) *runtimeapi.LinuxContainerResources {
	if pod.Spec.Overhead == nil {
		return &runtimeapi.LinuxContainerResources{}
	}
	cpu, memory := pod.Spec.Overhead[v1.ResourceCPU], pod.Spec.Overhead[v1.ResourceMemory]
	return b.linuxResources(cpu, cpu, memory)
}

// portMappings are the ports of the Pod's containers; of one name only the first of a container counts.
func portMappings(pod *v1.Pod) []*runtimeapi.PortMapping {
	var mappings []*runtimeapi.PortMapping
	for i := range pod.Spec.Containers {
		seen := map[string]bool{}
		for _, p := range pod.Spec.Containers[i].Ports {
			if key := portKey(p); !seen[key] {
				seen[key] = true
				mappings = append(mappings, &runtimeapi.PortMapping{
					HostIp: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: protocol(p.Protocol),
				})
			}
		}
	}
	return mappings
}

// portKey names a port that has no name by all it says, family included: the same port may be mapped once
// for IPv4 and once for IPv6.
func portKey(p v1.ContainerPort) string {
	if p.Name != "" {
		return p.Name
	}
	family := "any"
	if p.HostIP != "" {
		family = string(utilsnet.IPFamilyOfString(p.HostIP))
	}
	return fmt.Sprintf("%s-%s-%s:%d:%d", family, p.Protocol, p.HostIP, p.ContainerPort, p.HostPort)
}

func protocol(p v1.Protocol) runtimeapi.Protocol {
	switch p {
	case v1.ProtocolUDP:
		return runtimeapi.Protocol_UDP
	case v1.ProtocolSCTP:
		return runtimeapi.Protocol_SCTP
	}
	return runtimeapi.Protocol_TCP
}

// podName is a Pod as messages name it: name_namespace(uid).
func podName(pod *v1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}

func quantityOr(list v1.ResourceList, name v1.ResourceName, other resource.Quantity) resource.Quantity {
	if q, ok := list[name]; ok {
		return q
	}
	return other
}
