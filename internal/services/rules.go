package services

import (
	"net"
	"net/netip"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/nft"
)

// second is the register of the second half of those that a rule has: a front and a client's address fit in each.
const second = nft.Reg + 8

// The parts of a front's value.
const (
	frontID    = 0
	frontShape = 1
)

// words is how many 32-bit registers an address takes.
func words(v4 bool) uint32 {
	if v4 {
		return 1
	}
	return 4
}

func ofFamily(v4 bool) []expr.Any {
	if v4 {
		return nft.OfFamily(netip.IPv4Unspecified())
	}
	return nft.OfFamily(netip.IPv6Unspecified())
}

// loadKey loads the key by which a packet is looked up in a kind of set.
func loadKey(k kind, v4 bool, at uint32) []expr.Any {
	var out []expr.Any
	if k != byNodePort && k != portFromOutside && k != refusedPorts {
		out = append(out, nft.LoadAddress(nft.Dst, v4, at))
		at += words(v4)
	}
	if k == clusterIPs {
		return out
	}
	return append(out,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: at},
		&expr.Payload{DestRegister: at + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
}

// front looks a packet up in one of the maps of fronts; the front is then in three registers from at on.
func (t *table) front(k kind, v4 bool, at uint32) []expr.Any {
	return append(loadKey(k, v4, at), &expr.Lookup{SourceRegister: at, DestRegister: at, IsDestRegSet: true, SetName: familyName(setNames[k], v4)})
}

// toShape goes to the chain of the front's shape.
func toShape() []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: nft.Reg + frontShape, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: shapesSet}}
}

// shapeRules are the rules of a shape's chain.
func (t *table) shapeRules(s shape) [][]expr.Any {
	if s.endpoints == 0 {
		return [][]expr.Any{nft.Verdict(expr.VerdictDrop, "")}
	}
	var rules [][]expr.Any
	if s.ranged {
		rules = append(rules, nft.All(t.frontAndSource(s, nft.Reg), []expr.Any{
			&expr.Lookup{SourceRegister: nft.Reg, SetName: familyName(setNames[sources], s.v4), Invert: true},
		}, nft.Verdict(expr.VerdictDrop, "")))
	}
	switch s.masq {
	case always:
		rules = append(rules, setMark())
	case offPod:
		rules = append(rules, nft.All(t.notInCluster(s.v4), setMark()))
	}
	pick := nft.All(t.front(s.kind, s.v4, nft.Reg), []expr.Any{
		&expr.Numgen{Register: nft.Reg + 1, Modulus: uint32(s.endpoints), Type: unix.NFT_NG_RANDOM},
		&expr.Lookup{SourceRegister: nft.Reg, DestRegister: nft.Reg + 1, IsDestRegSet: true, SetName: familyName(setNames[endpoints], s.v4)},
	})
	dnat := []expr.Any{&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: family(s.v4), RegAddrMin: nft.Reg + 1, RegProtoMin: nft.Reg + 1 + words(s.v4), Specified: true,
	}}
	if s.affinity != 0 {
		// A client that is remembered, with an endpoint that is still one; then one that is not, or no longer rightly; and
		// then, where there is no room for more clients, without.
		known := nft.All(t.front(s.kind, s.v4, nft.Reg), t.frontAndSource(s, second), []expr.Any{
			&expr.Lookup{SourceRegister: second, DestRegister: nft.Reg + 1, IsDestRegSet: true, SetName: familyName(affinitySet, s.v4)},
			&expr.Lookup{SourceRegister: nft.Reg, SetName: familyName(setNames[endpointSet], s.v4)},
		})
		remember := []expr.Any{&expr.Dynset{
			SrcRegKey: second, SrcRegData: nft.Reg + 1, SetName: familyName(affinitySet, s.v4), Operation: unix.NFT_DYNSET_OP_UPDATE,
			Timeout: time.Duration(s.affinity) * time.Second,
		}}
		rules = append(rules, nft.All(known, remember, dnat), nft.All(pick, t.frontAndSource(s, second), remember, dnat))
	}
	return append(rules, nft.All(pick, dnat))
}

// frontAndSource loads the ID of the packet's list of endpoints, and after it the packet's source.
func (t *table) frontAndSource(s shape, at uint32) []expr.Any {
	return append(t.front(s.kind, s.v4, at), nft.LoadAddress(nft.Src, s.v4, at+1))
}

func family(v4 bool) uint32 {
	if v4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// bits keeps the bits of a mask and inverts those of xor.
func bits(mask, xor uint32) expr.Any {
	return &expr.Bitwise{
		SourceRegister: nft.Reg, DestRegister: nft.Reg, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(xor),
	}
}

// setMark marks a packet to leave with the node's address.
func setMark() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: nft.Reg},
		bits(^uint32(masqMark), masqMark),
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: nft.Reg},
	}
}

// notFrom matches packets whose source is not of a range.
func notFrom(p netip.Prefix) []expr.Any {
	p = p.Masked()
	size := uint32(p.Addr().BitLen() / 8)
	return []expr.Any{
		nft.LoadAddress(nft.Src, p.Addr().Is4(), nft.Reg),
		&expr.Bitwise{SourceRegister: nft.Reg, DestRegister: nft.Reg, Len: size, Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: nft.Reg, Data: p.Addr().AsSlice()},
	}
}

// sourceOfNode matches packets whose source is one of the node's addresses, or with CmpOpNeq none of them.
func sourceOfNode(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: nft.Reg, FlagSADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: op, Register: nft.Reg, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// notInByGroup matches packets that came in by a link of another device group; 0 is any.
func notInByGroup(group uint32) []expr.Any {
	if group == 0 {
		return nil
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFGROUP, Register: nft.Reg},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: nft.Reg, Data: binaryutil.NativeEndian.PutUint32(group)},
	}
}

// newConnection matches the first packet of a connection.
func newConnection() []expr.Any {
	const stateNew = 1 << 3 // NF_CT_STATE_BIT(IP_CT_NEW) of linux/netfilter/nf_conntrack_common.h
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: nft.Reg},
		bits(stateNew, 0),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: nft.Reg, Data: make([]byte, 4)},
	}
}
