package endpointslice

import (
	"context"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"podium.dev/podium/internal/registry/kit/validate"
)

// The maximum number of each.
const (
	maxEndpoints = 1000
	maxAddresses = 100
	maxPorts     = 20000
	maxHints     = 8
)

var addressTypes = []discoveryv1.AddressType{discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}

// check validates a slice. Errors in endpoints that old already had are not reported.
func check(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	wrong := checkEndpoints(s.Endpoints, s.AddressType, field.NewPath("endpoints"))
	if len(wrong) > 0 && old != nil && apiequality.Semantic.DeepEqual(old.Endpoints, s.Endpoints) {
		wrong = nil
	}
	return validate.InOrder(
		validate.Meta(&s.ObjectMeta, true, apivalidation.NameIsDNSSubdomain),
		validate.Kept(old != nil && old.AddressType != s.AddressType && s.AddressType != "", checkAddressType(s.AddressType, field.NewPath("addressType"))),
		checkPorts(s.Ports, field.NewPath("ports")),
		wrong,
	)
}

func checkUpdate(_ context.Context, s, old *discoveryv1.EndpointSlice) field.ErrorList {
	return validate.InOrder(check(s, old), validate.Same(s.AddressType, old.AddressType, field.NewPath("addressType")))
}

func checkAddressType(t discoveryv1.AddressType, path *field.Path) field.ErrorList {
	switch {
	case t == "":
		return field.ErrorList{validate.Missing(path)}
	case !slices.Contains(addressTypes, t):
		return validate.Declared(field.NotSupported(path, t, addressTypes))
	}
	return nil
}

func checkEndpoints(endpoints []discoveryv1.Endpoint, t discoveryv1.AddressType, path *field.Path) (faults field.ErrorList) {
	if len(endpoints) > maxEndpoints {
		return field.ErrorList{field.TooMany(path, len(endpoints), maxEndpoints)}
	}
	for i, e := range endpoints {
		at := path.Index(i)
		faults = append(faults, checkAddresses(e.Addresses, t, at.Child("addresses"))...)
		if e.NodeName != nil {
			faults = append(faults, nodeName(*e.NodeName, at.Child("nodeName"))...)
		}
		if e.Hostname != nil {
			faults = append(faults, validate.Label(*e.Hostname, at.Child("hostname"))...)
		}
		if e.Hints != nil {
			faults = append(faults, checkHints(e.Hints, at.Child("hints"))...)
		}
	}
	return faults
}

func checkAddresses(addresses []string, t discoveryv1.AddressType, path *field.Path) (faults field.ErrorList) {
	if len(addresses) == 0 {
		faults = append(faults, validate.Missing(path))
	}
	if len(addresses) > maxAddresses {
		faults = append(faults, validate.Declared(field.TooMany(path, len(addresses), maxAddresses))...)
	}
	for i, a := range addresses {
		switch t {
		case discoveryv1.AddressTypeIPv4:
			faults = append(faults, checkIP(a, netutils.IsIPv4String(a), "must be an IPv4 address", utilvalidation.IsValidIPForLegacyField(path.Index(i), a, true, nil), path, i)...)
		case discoveryv1.AddressTypeIPv6:
			faults = append(faults, checkIP(a, netutils.IsIPv6String(a), "must be an IPv6 address", utilvalidation.IsValidIP(path.Index(i), a), path, i)...)
		case discoveryv1.AddressTypeFQDN:
			faults = append(faults, utilvalidation.IsFullyQualifiedDomainName(path.Index(i), a)...)
		}
	}
	return faults
}

// checkIP requires an address of the right family that traffic can be sent to. malformed are the errors in its
// form.
func checkIP(address string, family bool, fault string, malformed field.ErrorList, path *field.Path, i int) (faults field.ErrorList) {
	if len(malformed) > 0 {
		return malformed
	}
	if !family {
		faults = append(faults, field.Invalid(path, address, fault))
	}
	return append(faults, validate.EndpointIP(address, path.Index(i))...)
}

func nodeName(name string, path *field.Path) (faults field.ErrorList) {
	for _, fault := range apivalidation.NameIsDNSSubdomain(name, false) {
		faults = append(faults, field.Invalid(path, name, fault))
	}
	return faults
}

func checkPorts(ports []discoveryv1.EndpointPort, path *field.Path) (faults field.ErrorList) {
	if len(ports) > maxPorts {
		return field.ErrorList{field.TooMany(path, len(ports), maxPorts)}
	}
	names := sets.New[string]()
	for i, p := range ports {
		at := path.Index(i)
		if *p.Name != "" {
			faults = append(faults, validate.Label(*p.Name, at.Child("name"))...)
		}
		if names.Has(*p.Name) {
			faults = append(faults, field.Duplicate(at.Child("name"), p.Name))
		}
		names.Insert(*p.Name)
		if p.Protocol == nil {
			faults = append(faults, field.Required(at.Child("protocol"), ""))
		} else {
			faults = append(faults, validate.KnownProtocol(*p.Protocol, at.Child("protocol"))...)
		}
		if p.AppProtocol != nil {
			faults = append(faults, validate.QualifiedName(*p.AppProtocol, at.Child("appProtocol"))...)
		}
	}
	return faults
}

func checkHints(h *discoveryv1.EndpointHints, path *field.Path) (faults field.ErrorList) {
	zones := path.Child("forZones")
	if len(h.ForZones) > maxHints {
		return field.ErrorList{field.TooMany(zones, len(h.ForZones), maxHints)}
	}
	seen := sets.New[string]()
	for i, z := range h.ForZones {
		at := zones.Index(i).Child("name")
		faults = append(faults, once(seen, z.Name, at)...)
		for _, fault := range utilvalidation.IsValidLabelValue(z.Name) {
			faults = append(faults, field.Invalid(at, z.Name, fault))
		}
	}
	nodes := path.Child("forNodes")
	if len(h.ForNodes) > maxHints {
		return append(faults, field.TooMany(nodes, len(h.ForNodes), maxHints))
	}
	seen = sets.New[string]()
	for i, n := range h.ForNodes {
		at := nodes.Index(i).Child("name")
		faults = append(faults, once(seen, n.Name, at)...)
		faults = append(faults, nodeName(n.Name, at)...)
	}
	return faults
}

// once reports an error for a name that was seen before.
func once(seen sets.Set[string], name string, path *field.Path) field.ErrorList {
	if seen.Has(name) {
		return field.ErrorList{field.Duplicate(path, name)}
	}
	seen.Insert(name)
	return nil
}
