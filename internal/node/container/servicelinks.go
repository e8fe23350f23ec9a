package container

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// addServices adds the variables of the Services that a Pod of the namespace sees: its namespace's own where
// it wants them, and default/kubernetes, which tells the Pod where the API server is.
func addServices(e *environment, services []*v1.Service, namespace string, links bool) {
	seen := map[string]*v1.Service{}
	for _, s := range services {
		switch {
		case s.Spec.ClusterIP == "" || s.Spec.ClusterIP == v1.ClusterIPNone || len(s.Spec.Ports) == 0:
		case s.Namespace == namespace && links:
			seen[s.Name] = s
		case s.Namespace == v1.NamespaceDefault && s.Name == "kubernetes" && seen[s.Name] == nil:
			seen[s.Name] = s
		}
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		addService(e, seen[name])
	}
}

// addService adds a Service's variables: host and port, and those that Docker's links once had.
func addService(e *environment, s *v1.Service) {
	prefix, ip := variableName(s.Name), s.Spec.ClusterIP
	e.set(prefix+"_SERVICE_HOST", ip)
	e.set(prefix+"_SERVICE_PORT", strconv.Itoa(int(s.Spec.Ports[0].Port)))
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			e.set(prefix+"_SERVICE_PORT_"+variableName(p.Name), strconv.Itoa(int(p.Port)))
		}
	}
	for i, p := range s.Spec.Ports {
		protocol := "tcp"
		if p.Protocol != "" {
			protocol = strings.ToLower(string(p.Protocol))
		}
		port := strconv.Itoa(int(p.Port))
		url := protocol + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			e.set(prefix+"_PORT", url)
		}
		link := fmt.Sprintf("%s_PORT_%s_%s", prefix, port, strings.ToUpper(protocol))
		e.set(link, url)
		e.set(link+"_PROTO", protocol)
		e.set(link+"_PORT", port)
		e.set(link+"_ADDR", ip)
	}
}

func variableName(name string) string {
	return strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
