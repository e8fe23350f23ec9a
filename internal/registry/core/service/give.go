package service

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// giveNodePorts allocates the node ports that a new service requests, and any for the ports without a request.
// Ports with the same number and different protocols share a node port unless they request one.
func giveNodePorts(p *ports, s *corev1.Service) error {
	shared := map[int32]int32{}
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		if port.NodePort == 0 && !givesNodePorts(s) {
			continue
		}
		switch given := shared[port.Port]; {
		case given == 0:
			asked := askedFor(port.Port, s.Spec.Ports)
			if err := p.giveOne(s, i, asked, port); err != nil {
				return err
			}
			shared[port.Port] = port.NodePort
		case port.NodePort == 0:
			port.NodePort = given
		case port.NodePort != given:
			if err := p.giveOne(s, i, port.NodePort, port); err != nil {
				return err
			}
		}
	}
	return giveHealthCheck(p, s)
}

// askedFor returns the first node port that a port with the number requests, or 0 if none does.
func askedFor(number int32, all []corev1.ServicePort) int32 {
	for _, p := range all {
		if p.Port == number && p.NodePort != 0 {
			return p.NodePort
		}
	}
	return 0
}

// giveOne allocates the requested node port, or any for 0, and sets it in the port, which is the i-th of s.
func (p *ports) giveOne(s *corev1.Service, i int, asked int32, port *corev1.ServicePort) error {
	if asked == 0 {
		any, err := p.takeAny()
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
		}
		port.NodePort = any
		return nil
	}
	if err := p.take(asked); err != nil {
		return invalid(s, field.Invalid(spec.Child("ports").Index(i).Child("nodePort"), asked, err.Error()))
	}
	port.NodePort = asked
	return nil
}

func giveHealthCheck(p *ports, s *corev1.Service) error {
	if !needsHealthCheck(s) {
		return nil
	}
	if asked := s.Spec.HealthCheckNodePort; asked != 0 {
		if err := p.take(asked); err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %v: %w", asked, err))
		}
		return nil
	}
	any, err := p.takeAny()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort %v: %w", 0, err))
	}
	s.Spec.HealthCheckNodePort = any
	return nil
}

// changeNodePorts allocates the node ports that an updated service newly requests, and any for the ports
// without a request. Node ports that it no longer has are released when the update is stored.
func changeNodePorts(p *ports, s, old *corev1.Service) error {
	type pair struct {
		protocol corev1.Protocol
		port     int32
	}
	has := nodePorts(old)
	seen := sets.New[pair]()
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		if port.NodePort == 0 && !givesNodePorts(s) {
			continue
		}
		if port.NodePort == 0 || !has.Has(port.NodePort) {
			if err := p.giveOne(s, i, port.NodePort, port); err != nil {
				return err
			}
			has.Insert(port.NodePort)
		}
		if seen.Has(pair{port.Protocol, port.NodePort}) {
			return fmt.Errorf("duplicate nodePort: {%s %d}", port.Protocol, port.NodePort)
		}
		seen.Insert(pair{port.Protocol, port.NodePort})
	}
	if needsHealthCheck(old) {
		return nil
	}
	return giveHealthCheck(p, s)
}
