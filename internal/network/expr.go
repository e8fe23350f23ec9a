package network

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

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

// matchAddress matches packets from or to an address.
func matchAddress(d direction, a netip.Addr) []expr.Any {
	return match(d, netip.PrefixFrom(a, a.BitLen()))
}

// allOf is one rule of all these parts.
func allOf(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func linkName(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

// inBy matches packets that came in by a link.
func inBy(link string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: linkName(link)},
	}
}

// notInBy matches packets that came in by another link.
func notInBy(link string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: linkName(link)},
	}
}

// outBy matches packets that go out by a link.
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
