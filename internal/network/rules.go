package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rules is the node's own nftables table. What it does, in nft's words, per address family:
//
//	table inet podium {
//	  map hostports4 { type inet_proto . inet_service : ipv4_addr . inet_service }
//	  map hostports4-ip { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//	  chain guard       { type filter hook prerouting priority raw
//	                      iifname BRIDGE ip daddr 127.0.0.0/8 drop }
//	  chain prerouting  { type nat hook prerouting priority dstnat
//	                      iifname BRIDGE ip daddr SERVICE tcp dport 443 dnat to APISERVER
//	                      fib daddr type local jump hostports }
//	  chain output      { type nat hook output priority dstnat
//	                      ip daddr SERVICE tcp dport 443 dnat to APISERVER
//	                      fib daddr type local jump hostports }
//	  chain hostports   { dnat to ip daddr . meta l4proto . th dport map @hostports4-ip
//	                      dnat to meta l4proto . th dport map @hostports4 }
//	  chain postrouting { type nat hook postrouting priority srcnat
//	                      ip saddr 127.0.0.0/8 oifname BRIDGE masquerade
//	                      ip saddr PODS ip daddr PODS ct status dnat masquerade
//	                      ip saddr PODS oifname BRIDGE return
//	                      ip saddr PODS ip daddr CLUSTER return
//	                      ip saddr PODS ip daddr 224.0.0.0/4 return
//	                      ip saddr PODS masquerade }
//	}
//
// The number of rules does not grow with the Pods: host ports are elements of the maps.
type rules struct {
	table   string
	bridge  string // empty where CNI serves the Pods
	cidrs   []netip.Prefix
	cluster []netip.Prefix
	service netip.Addr
	api     netip.AddrPort
}

// servicePort is the port of the "kubernetes" Service.
const servicePort = 443

// apply puts the whole table in place of what was there, in one transaction: no packet sees half of it.
func (r *rules) apply(ports []portTarget) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("reach nftables: %w", err)
	}
	t := r.ref()
	c.AddTable(t)
	c.DelTable(t)
	c.AddTable(t)
	if err := r.addMaps(c, t, ports); err != nil {
		return err
	}
	r.addChains(c, t)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("write the nftables table %s: %w (are the kernel's nf_tables and nft_nat modules there?)", r.table, err)
	}
	return nil
}

func (r *rules) ref() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: r.table}
}

// removeTable deletes a table of ours by name. One that is not there is no error.
func removeTable(name string) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("reach nftables: %w", err)
	}
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete the nftables table %s: %w", name, err)
	}
	return nil
}

// tableExists says whether the table is there.
func tableExists(name string) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("reach nftables: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list the nftables tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == name {
			return true, nil
		}
	}
	return false, nil
}

func (r *rules) addChains(c *nftables.Conn, t *nftables.Table) {
	accept := nftables.ChainPolicyAccept
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: prio, Policy: &accept})
	}
	rule := func(ch *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: all})
	}
	dstnat := nftables.ChainPriorityNATDest
	if r.bridge == "" {
		// What has no bridge to go by takes every Pod's traffic, so it comes after the other nodes of this machine.
		dstnat = nftables.ChainPriorityRef(*nftables.ChainPriorityNATDest + 1)
	}
	hostports := c.AddChain(&nftables.Chain{Name: "hostports", Table: t})
	guard := chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	pre := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, dstnat)
	out := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, dstnat)
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)

	if r.service.IsValid() && r.api.IsValid() && r.service.Is4() == r.api.Addr().Is4() {
		to := [][]expr.Any{match(dst, netip.PrefixFrom(r.service, r.service.BitLen())), tcpPort(servicePort), dnatTo(r.api)}
		if r.bridge != "" {
			rule(pre, append([][]expr.Any{inBy(r.bridge)}, to...)...)
		} else {
			rule(pre, to...)
		}
		rule(out, to...)
	}
	if r.bridge == "" {
		return
	}
	rule(guard, inBy(r.bridge), match(dst, loopback4), verdict(expr.VerdictDrop, ""))
	rule(pre, localDestination(), verdict(expr.VerdictJump, "hostports"))
	rule(out, localDestination(), verdict(expr.VerdictJump, "hostports"))
	for _, p := range r.cidrs {
		f := portMaps[p.Addr().Is4()]
		rule(hostports, ofFamily(p.Addr()), f.lookupWithAddress(), f.dnatFromMap())
		rule(hostports, ofFamily(p.Addr()), f.lookupAnyAddress(), f.dnatFromMap())
	}
	rule(post, match(src, loopback4), outBy(r.bridge), masquerade())
	for _, p := range r.cidrs {
		from := match(src, p)
		rule(post, from, match(dst, p), translated(), masquerade())
		rule(post, from, outBy(r.bridge), verdict(expr.VerdictReturn, ""))
		multicast := netip.MustParsePrefix("ff00::/8")
		if p.Addr().Is4() {
			multicast = netip.MustParsePrefix("224.0.0.0/4")
		}
		for _, keep := range append([]netip.Prefix{multicast}, r.cluster...) {
			if keep.Addr().Is4() == p.Addr().Is4() {
				rule(post, from, match(dst, keep), verdict(expr.VerdictReturn, ""))
			}
		}
		rule(post, from, masquerade())
	}
}

var loopback4 = netip.MustParsePrefix("127.0.0.0/8")

// reg is the nft register that the expressions below work in: the first of the 32-bit ones, so that the parts of a
// concatenation lie in the following ones.
const reg = 8

type direction bool

const (
	src direction = false
	dst direction = true
)

// ofFamily matches packets of the address's family.
func ofFamily(a netip.Addr) []expr.Any {
	family := byte(unix.NFPROTO_IPV6)
	if a.Is4() {
		family = unix.NFPROTO_IPV4
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{family}},
	}
}

// loadAddress loads a packet's source or destination into register at.
func loadAddress(d direction, v4 bool, at uint32) expr.Any {
	offset, size := uint32(8), uint32(16)
	if v4 {
		offset, size = 12, 4
	}
	if d == dst {
		offset += size
	}
	return &expr.Payload{DestRegister: at, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}
}

// match matches packets from or to a range.
func match(d direction, p netip.Prefix) []expr.Any {
	p = p.Masked()
	size := uint32(p.Addr().BitLen() / 8)
	out := append(ofFamily(p.Addr()), loadAddress(d, p.Addr().Is4(), reg))
	if !p.IsSingleIP() {
		mask := ipNet(p.Addr(), p.Bits()).Mask
		out = append(out, &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: size, Mask: mask, Xor: make([]byte, size)})
	}
	return append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: p.Addr().AsSlice()})
}

func linkName(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

func inBy(link string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: linkName(link)},
	}
}

func outBy(link string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: linkName(link)},
	}
}

func tcpPort(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// localDestination matches what is sent to one of the node's own addresses.
func localDestination() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// translated matches connections whose destination was translated.
func translated() []expr.Any {
	const ipsDstNAT = 1 << 5 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(ipsDstNAT), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)},
	}
}

func dnatTo(to netip.AddrPort) []expr.Any {
	const portReg = reg + 4
	return []expr.Any{
		&expr.Immediate{Register: reg, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: portReg, Data: binaryutil.BigEndian.PutUint16(to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: nfFamily(to.Addr()), RegAddrMin: reg, RegProtoMin: portReg, Specified: true},
	}
}

func nfFamily(a netip.Addr) uint32 {
	if a.Is4() {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}
