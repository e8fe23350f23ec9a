package nft

import (
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// InByGroup matches packets that came in by a link of a device group.
func InByGroup(group uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFGROUP, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: binaryutil.NativeEndian.PutUint32(group)},
	}
}

// EtherType matches frames of a type (bridge family); one with a VLAN tag is of the tag's type.
func EtherType(t uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: Reg, Base: expr.PayloadBaseLLHeader, Offset: 12, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: binaryutil.BigEndian.PutUint16(t)},
	}
}

// Transport matches packets of a transport protocol.
func Transport(proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: []byte{proto}},
	}
}

// Ports matches the source and the destination port of TCP, UDP and the like.
func Ports(source, destination uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: Reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: append(binaryutil.BigEndian.PutUint16(source), binaryutil.BigEndian.PutUint16(destination)...)},
	}
}

// Between matches packets of which a part is within a range.
func Between(from expr.Any, low, high []byte) []expr.Any {
	return []expr.Any{
		from,
		&expr.Cmp{Op: expr.CmpOpGte, Register: Reg, Data: low},
		&expr.Cmp{Op: expr.CmpOpLte, Register: Reg, Data: high},
	}
}

// TransportByte matches a byte of the transport header within a range.
func TransportByte(offset uint32, low, high byte) []expr.Any {
	return Between(TransportBytes(offset, 1)(Reg), []byte{low}, []byte{high})
}

// NetworkRange matches bytes of the network header within a range.
func NetworkRange(offset uint32, low, high []byte) []expr.Any {
	return Between(NetworkBytes(offset, uint32(len(low)))(Reg), low, high)
}

// NetworkEquals matches bytes of the network header.
func NetworkEquals(offset uint32, want []byte) []expr.Any {
	return []expr.Any{
		NetworkBytes(offset, uint32(len(want)))(Reg),
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: want},
	}
}

// LaterFragment matches IPv6 fragments but the first.
func LaterFragment() []expr.Any {
	return []expr.Any{
		&expr.Exthdr{DestRegister: Reg, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6},
		&expr.Bitwise{SourceRegister: Reg, DestRegister: Reg, Len: 2, Mask: []byte{0xff, 0xf8}, Xor: make([]byte, 2)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: Reg, Data: []byte{0, 0}},
	}
}

// Part loads a part of a packet into a register.
type Part func(at uint32) expr.Any

// NetworkBytes is a part of the network header.
func NetworkBytes(offset, size uint32) Part {
	return func(at uint32) expr.Any {
		return &expr.Payload{DestRegister: at, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}
	}
}

// TransportBytes is a part of the transport header.
func TransportBytes(offset, size uint32) Part {
	return func(at uint32) expr.Any {
		return &expr.Payload{DestRegister: at, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: size}
	}
}

// FromMAC loads the frame's source.
func FromMAC(at uint32) expr.Any {
	return &expr.Payload{DestRegister: at, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6}
}
