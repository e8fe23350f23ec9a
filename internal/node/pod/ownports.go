package pod

import (
	"fmt"
	"net/netip"

	v1 "k8s.io/api/core/v1"
)

// OwnPort is a TCP port that the node itself listens on.
type OwnPort struct {
	// Name says whose it is, as in "the API server".
	Name string
	// At is the address and the port; an unspecified address is every address of the node.
	At netip.AddrPort
}

// AdmitPorts refuses Pods that ask for a port of the node that the node itself listens on. A host port is a rule that
// comes before all listeners: it would take the port away from the whole machine. The reason and the words are those of
// a port that another Pod has. Not only what the scheduler counts is looked at: an ordinary init container with the node's
// network can listen too.
func AdmitPorts(own []OwnPort) func(p *v1.Pod, others []*v1.Pod) *Verdict {
	return func(p *v1.Pod, _ []*v1.Pod) *Verdict {
		for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range list {
				for _, port := range list[i].Ports {
					for _, o := range own {
						if o.takenBy(port) {
							return &Verdict{Reason: "NodePorts", Message: fmt.Sprintf(
								"Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: hostPort %d/TCP of container %q is the port of %s; use another hostPort",
								port.HostPort, list[i].Name, o.Name)}
						}
					}
				}
			}
		}
		return nil
	}
}

// takenBy reports whether a container's port would take the node's own.
func (o OwnPort) takenBy(p v1.ContainerPort) bool {
	if p.HostPort != int32(o.At.Port()) || p.Protocol != "" && p.Protocol != v1.ProtocolTCP {
		return false
	}
	own := o.At.Addr().Unmap()
	ip, err := netip.ParseAddr(p.HostIP)
	return err != nil || ip.IsUnspecified() || own.IsUnspecified() || ip.Unmap() == own
}
