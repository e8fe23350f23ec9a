package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/nft"
)

// portTarget is a host port and the Pod's address it leads to.
type portTarget struct {
	hostPort
	to netip.Addr
}

// hostPortsOf reads the host ports of a sandbox; those with host port 0 are none.
func hostPortsOf(mappings []*runtimeapi.PortMapping) ([]hostPort, error) {
	var out []hostPort
	for _, m := range mappings {
		if m.GetHostPort() <= 0 {
			continue
		}
		proto, ok := map[runtimeapi.Protocol]uint8{
			runtimeapi.Protocol_TCP: unix.IPPROTO_TCP, runtimeapi.Protocol_UDP: unix.IPPROTO_UDP, runtimeapi.Protocol_SCTP: unix.IPPROTO_SCTP,
		}[m.Protocol]
		if !ok || m.HostPort > 65535 || m.ContainerPort <= 0 || m.ContainerPort > 65535 {
			return nil, fmt.Errorf("host port %d to %d (%s): not a port of TCP, UDP or SCTP", m.HostPort, m.ContainerPort, m.Protocol)
		}
		p := hostPort{Proto: proto, Host: uint16(m.HostPort), Pod: uint16(m.ContainerPort)}
		if m.HostIp != "" {
			ip, err := netip.ParseAddr(m.HostIp)
			if err != nil {
				return nil, fmt.Errorf("host port %d: the host IP %q is no address: %w", m.HostPort, m.HostIp, err)
			}
			p.HostIP = ip.Unmap()
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// takes reports whether a host port would take a port that the node itself listens on.
func (p hostPort) takes(own OwnPort) bool {
	if p.Proto != unix.IPPROTO_TCP || p.Host != own.At.Port() {
		return false
	}
	ip := own.At.Addr().Unmap()
	return ip.IsUnspecified() || !p.HostIP.IsValid() || p.HostIP.IsUnspecified() || p.HostIP == ip
}

// refuseOwn returns an error when one of the host ports is the node's own. The node's admission has refused such a Pod
// already; other clients of the CRI have none.
func (b *builtin) refuseOwn(ports []hostPort) error {
	b.tables.Lock()
	defer b.tables.Unlock()
	for _, p := range ports {
		for _, own := range b.rules.own {
			if p.takes(own) {
				return fmt.Errorf("host port %s: %s listens there at %s; take another hostPort", p, own.Name, own.At)
			}
		}
	}
	return nil
}

// addOwn adds ports that the node itself listens on; the tables are to be written after it.
func (b *builtin) addOwn(own []OwnPort) {
	b.tables.Lock()
	defer b.tables.Unlock()
	for _, o := range own {
		if !slices.Contains(b.rules.own, o) {
			b.rules.own = append(b.rules.own, o)
		}
	}
}

// targets pairs the ports of a sandbox with its addresses, each family with its own: a host IP of one family leads
// to the Pod's address of that family, none to both.
func targets(ips []netip.Addr, ports []hostPort) []portTarget {
	var out []portTarget
	for _, p := range ports {
		for _, ip := range ips {
			if p.HostIP.IsValid() && p.HostIP.Is4() != ip.Is4() {
				continue
			}
			t := portTarget{hostPort: p, to: ip}
			if p.HostIP.IsUnspecified() {
				t.HostIP = netip.Addr{}
			}
			if !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out
}

// portMap is the pair of maps of an address family.
type portMap struct {
	v4               bool
	any, withAddress string // names
	hairpins         string // name of the set of the Pods that have host ports
	addrType         nftables.SetDatatype
}

var portMaps = map[bool]portMap{
	true:  {v4: true, any: "hostports4", withAddress: "hostports4-ip", hairpins: "hairpins4", addrType: nftables.TypeIPAddr},
	false: {any: "hostports6", withAddress: "hostports6-ip", hairpins: "hairpins6", addrType: nftables.TypeIP6Addr},
}

func (m portMap) sets(t *nftables.Table) (anyAddr, withAddr *nftables.Set) {
	port := []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
	set := func(name string, key ...nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{
			Table: t, Name: name, IsMap: true, Concatenation: true,
			KeyType:  nftables.MustConcatSetType(key...),
			DataType: nftables.MustConcatSetType(m.addrType, nftables.TypeInetService),
		}
	}
	return set(m.any, port...), set(m.withAddress, append([]nftables.SetDatatype{m.addrType}, port...)...)
}

// hairpinSet has, for each Pod with a host port, its address twice: source and destination of what it sends itself by a
// host port.
func (m portMap) hairpinSet(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: m.hairpins, Concatenation: true, KeyType: nftables.MustConcatSetType(m.addrType, m.addrType)}
}

// toItself matches packets of a Pod that were translated to go to the Pod itself.
func (m portMap) toItself() []expr.Any {
	return nft.All(nft.Translated(), []expr.Any{
		nft.LoadAddress(nft.Src, m.v4, nft.Reg), nft.LoadAddress(nft.Dst, m.v4, nft.Reg+m.words()),
		&expr.Lookup{SourceRegister: nft.Reg, SetName: m.hairpins},
	})
}

// words is how many 32-bit registers an address takes.
func (m portMap) words() uint32 {
	if m.v4 {
		return 1
	}
	return 4
}

func (m portMap) load(at uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: at},
		&expr.Payload{DestRegister: at + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func (m portMap) lookupAnyAddress() []expr.Any {
	return append(m.load(nft.Reg), &expr.Lookup{SourceRegister: nft.Reg, DestRegister: nft.Reg, IsDestRegSet: true, SetName: m.any})
}

func (m portMap) lookupWithAddress() []expr.Any {
	out := append([]expr.Any{nft.LoadAddress(nft.Dst, m.v4, nft.Reg)}, m.load(nft.Reg+m.words())...)
	return append(out, &expr.Lookup{SourceRegister: nft.Reg, DestRegister: nft.Reg, IsDestRegSet: true, SetName: m.withAddress})
}

func (m portMap) dnatFromMap() []expr.Any {
	family := uint32(unix.NFPROTO_IPV6)
	if m.v4 {
		family = unix.NFPROTO_IPV4
	}
	return []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: nft.Reg, RegProtoMin: nft.Reg + m.words(), Specified: true}}
}

// element is t as an element of its map.
func (m portMap) element(t portTarget) nftables.SetElement {
	port := func(n uint16) []byte { return append(binaryutil.BigEndian.PutUint16(n), 0, 0) }
	var key []byte
	if t.HostIP.IsValid() {
		key = t.HostIP.AsSlice()
	}
	key = append(append(key, t.Proto, 0, 0, 0), port(t.Host)...)
	return nftables.SetElement{Key: key, Val: append(t.to.AsSlice(), port(t.Pod)...)}
}

// maps are the maps with their elements. Of two sandboxes with one host port (the old one not yet gone) the later in
// ports has it.
func (r *rules) maps(ports []portTarget) []nft.Set {
	var out []nft.Set
	for _, c := range r.changesFor(ports) {
		out = append(out, nft.Set{Set: c.Set, Elements: c.Elements})
	}
	return out
}

// changesFor are the elements of ports, a change for each map and set.
func (r *rules) changesFor(ports []portTarget) []nft.Change {
	var out []nft.Change
	for _, v4 := range []bool{true, false} {
		m := portMaps[v4]
		anyAddr, withAddr := m.sets(r.ref())
		for _, set := range []*nftables.Set{anyAddr, withAddr} {
			c, addressed := nft.Change{Set: set}, set == withAddr
			at := map[string]int{}
			for _, p := range ports {
				if p.to.Is4() != v4 || p.HostIP.IsValid() != addressed {
					continue
				}
				e := m.element(p)
				if i, twice := at[string(e.Key)]; twice {
					c.Elements[i] = e
					continue
				}
				at[string(e.Key)] = len(c.Elements)
				c.Elements = append(c.Elements, e)
			}
			out = append(out, c)
		}
		hairpins := nft.Change{Set: m.hairpinSet(r.ref())}
		have := map[netip.Addr]bool{}
		for _, p := range ports {
			if p.to.Is4() == v4 && !have[p.to] {
				have[p.to] = true
				hairpins.Elements = append(hairpins.Elements, nftables.SetElement{Key: append(p.to.AsSlice(), p.to.AsSlice()...)})
			}
		}
		out = append(out, hairpins)
	}
	return out
}

// open makes ports lead to their Pods, in one transaction. A port that leads to another Pod (on its way out: the
// scheduler gives a port once) is taken over.
func (r *rules) open(ports []portTarget) error {
	changes := r.changesFor(ports)
	err := nft.Add(changes...)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		if err = r.close(ports); err == nil {
			err = nft.Add(changes...)
		}
	}
	if err != nil {
		return fmt.Errorf("open the host ports %v: %w", ports, err)
	}
	return nil
}

// close ends ports. Those that are not open are no error.
func (r *rules) close(ports []portTarget) error {
	if err := nft.Delete(r.changesFor(ports)...); err != nil {
		return fmt.Errorf("close the host ports %v: %w", ports, err)
	}
	return nil
}

// String is the port as an error names it: "8080/tcp".
func (p hostPort) String() string {
	proto := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[p.Proto]
	if p.HostIP.IsValid() {
		return fmt.Sprintf("%s/%s", netip.AddrPortFrom(p.HostIP, p.Host), proto)
	}
	return fmt.Sprintf("%d/%s", p.Host, proto)
}

// sameOnHost reports whether p and o are the same port of the node.
func (p hostPort) sameOnHost(o hostPort) bool {
	return p.Proto == o.Proto && p.Host == o.Host && p.HostIP == o.HostIP
}

// forgetFlows deletes what the kernel remembers of connections by ports that are not TCP: they have no end by
// themselves, and packets of theirs would go on to the Pod that had the port before.
func forgetFlows(h *netlink.Handle, ports []portTarget) error {
	var filters4, filters6 []netlink.CustomConntrackFilter
	for _, p := range ports {
		if p.Proto == unix.IPPROTO_TCP {
			continue
		}
		f := &netlink.ConntrackFilter{}
		if err := errors.Join(f.AddProtocol(p.Proto), f.AddPort(netlink.ConntrackOrigDstPort, p.Host)); err != nil {
			return fmt.Errorf("describe the flows of host port %s: %w", p, err)
		}
		if p.HostIP.IsValid() {
			if err := f.AddIP(netlink.ConntrackOrigDstIP, net.IP(p.HostIP.AsSlice())); err != nil {
				return fmt.Errorf("describe the flows of host port %s: %w", p, err)
			}
		}
		if p.to.Is4() {
			filters4 = append(filters4, f)
		} else {
			filters6 = append(filters6, f)
		}
	}
	var errs []error
	if len(filters4) > 0 {
		_, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filters4...)
		errs = append(errs, err)
	}
	if len(filters6) > 0 {
		_, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET6, filters6...)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
