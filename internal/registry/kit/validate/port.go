package validate

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

var protocols = []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}

// Protocol requires TCP, UDP or SCTP.
func Protocol(protocol corev1.Protocol, path *field.Path) field.ErrorList {
	if protocol == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return KnownProtocol(protocol, path)
}

// KnownProtocol is Protocol for a field whose absence is not an error of its own.
func KnownProtocol(protocol corev1.Protocol, path *field.Path) field.ErrorList {
	if slices.Contains(protocols, protocol) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, protocol, protocols)}
}

// PortNumberOrName requires a port number, or a name as containers give to their ports.
func PortNumberOrName(port intstr.IntOrString, path *field.Path) (faults field.ErrorList) {
	if port.Type == intstr.Int {
		for _, fault := range utilvalidation.IsValidPortNum(port.IntValue()) {
			faults = append(faults, field.Invalid(path, port.IntValue(), fault))
		}
		return faults
	}
	for _, fault := range utilvalidation.IsValidPortName(port.StrVal) {
		faults = append(faults, field.Invalid(path, port.StrVal, fault))
	}
	return faults
}

// EndpointIP requires an address that traffic can be sent to from elsewhere.
func EndpointIP(address string, path *field.Path) (faults field.ErrorList) {
	ip := netutils.ParseIPSloppy(address)
	if ip == nil {
		return field.ErrorList{field.Invalid(path, address, "must be a valid IP address")}
	}
	refuse := func(fault string) { faults = append(faults, field.Invalid(path, address, fault)) }
	if ip.IsUnspecified() {
		refuse(fmt.Sprintf("may not be unspecified (%v)", address))
	}
	if ip.IsLoopback() {
		refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)")
	}
	if ip.IsLinkLocalUnicast() {
		refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
	}
	if ip.IsLinkLocalMulticast() {
		refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
	}
	return faults
}
