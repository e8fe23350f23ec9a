package container

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// maxHostname and maxNodename are what the kernel's node name of 64 bytes leaves for a host's name and
	// for a full one.
	maxHostname = 63
	maxNodename = 64
)

// Hostname returns a Pod's host name and, when it has a subdomain, the domain it is in.
func Hostname(pod *v1.Pod, clusterDomain string) (name, domain string, err error) {
	if override := pod.Spec.HostnameOverride; override != nil {
		if problems := validation.IsDNS1123Subdomain(*override); len(problems) > 0 {
			return "", "", fmt.Errorf("pod HostnameOverride %q is not a valid DNS subdomain: %s", *override, strings.Join(problems, ";"))
		}
		name, err = cutHostname(pod, *override)
		return name, "", err
	}
	name = pod.Name
	if pod.Spec.Hostname != "" {
		name = pod.Spec.Hostname
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			return "", "", fmt.Errorf("pod Hostname %q is not a valid DNS label: %s", name, strings.Join(problems, ";"))
		}
	}
	if name, err = cutHostname(pod, name); err != nil || pod.Spec.Subdomain == "" {
		return name, "", err
	}
	if problems := validation.IsDNS1123Label(pod.Spec.Subdomain); len(problems) > 0 {
		return "", "", fmt.Errorf("pod Subdomain %q is not a valid DNS label: %s", pod.Spec.Subdomain, strings.Join(problems, ";"))
	}
	return name, fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, clusterDomain), nil
}

// cutHostname shortens a name to what the kernel holds; the cut leaves no '-' or '.' at the end.
func cutHostname(pod *v1.Pod, name string) (string, error) {
	if len(name) <= maxHostname {
		return name, nil
	}
	cut := strings.TrimRight(name[:maxHostname], "-.")
	if cut == "" {
		return "", fmt.Errorf("hostname for pod %q was invalid: %q", pod.Name, name)
	}
	return cut, nil
}

// kernelHostname is what the Pod's UTS namespace is named: the full name where the Pod wants it.
func kernelHostname(pod *v1.Pod, name, domain string) (string, error) {
	if domain == "" || pod.Spec.SetHostnameAsFQDN == nil || !*pod.Spec.SetHostnameAsFQDN {
		return name, nil
	}
	fqdn := name + "." + domain
	if len(fqdn) > maxNodename {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)", fqdn, maxNodename, len(fqdn))
	}
	return fqdn, nil
}
