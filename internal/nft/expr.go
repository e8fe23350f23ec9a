// Package nft writes nftables tables: it makes them what they must be, changes elements of sets and maps in small
// transactions, and notices when another program deletes a table. Its expressions are the parts of the rules of the node's
// tables. It knows nothing of Pods, Services or policies.
package nft

import (
	"net"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Reg is the nft register that the expressions below work in: the first of the 32-bit ones, so that the parts of a
// concatenation lie in the following ones.
const Reg = 8

// Direction is one of the two ends of a packet.
type Direction bool

// The ends of a packet.
const (
	Src Direction = false
	Dst Direction = true
)

// OfFamily matches packets of the address's family.
func OfFamily(a netip.Addr) []expr.Any {
	family := byte(unix.NFPROTO_IPV6)
	if a.Is4() {
		family = unix.NFPROTO_IPV4
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: []byte{family}},
	}
}

// LoadAddress loads a packet's source or destination into register at.
func LoadAddress(d Direction, v4 bool, at uint32) expr.Any {
	offset, size := uint32(8), uint32(16)
	if v4 {
		offset, size = 12, 4
	}
	if d == Dst {
		offset += size
	}
	return &expr.Payload{DestRegister: at, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}
}

// Match matches packets from or to a range.
func Match(d Direction, p netip.Prefix) []expr.Any {
	p = p.Masked()
	size := uint32(p.Addr().BitLen() / 8)
	out := append(OfFamily(p.Addr()), LoadAddress(d, p.Addr().Is4(), Reg))
	if !p.IsSingleIP() {
		mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
		out = append(out, &expr.Bitwise{SourceRegister: Reg, DestRegister: Reg, Len: size, Mask: mask, Xor: make([]byte, size)})
	}
	return append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: p.Addr().AsSlice()})
}

// MatchAddress matches packets from or to an address.
func MatchAddress(d Direction, a netip.Addr) []expr.Any {
	return Match(d, netip.PrefixFrom(a, a.BitLen()))
}

// All is one rule of all these parts.
func All(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// LinkName is a link's name as the kernel compares it: filled up with zeros.
func LinkName(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

// InBy matches packets that came in by a link.
func InBy(link string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: LinkName(link)},
	}
}

// NotInBy matches packets that came in by another link.
func NotInBy(link string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: Reg, Data: LinkName(link)},
	}
}

// OutBy matches packets that go out by a link.
func OutBy(link string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: LinkName(link)},
	}
}

// TCPPort matches TCP packets to a port.
func TCPPort(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: Reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// LocalDestination matches what is sent to one of the node's own addresses.
func LocalDestination() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: Reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// Translated matches connections whose destination was translated.
func Translated() []expr.Any {
	const ipsDstNAT = 1 << 5 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: Reg},
		&expr.Bitwise{SourceRegister: Reg, DestRegister: Reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(ipsDstNAT), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: Reg, Data: make([]byte, 4)},
	}
}

// DNAT changes a connection's destination.
func DNAT(to netip.AddrPort) []expr.Any {
	const portReg = Reg + 4
	return []expr.Any{
		&expr.Immediate{Register: Reg, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: portReg, Data: binaryutil.BigEndian.PutUint16(to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: Family(to.Addr()), RegAddrMin: Reg, RegProtoMin: portReg, Specified: true},
	}
}

// Family is the number of an address's family in nft's expressions.
func Family(a netip.Addr) uint32 {
	if a.Is4() {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// Masquerade gives a connection the source address of the link by which it leaves.
func Masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

// Verdict ends a rule; chain is where jumps and gotos lead.
func Verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}
