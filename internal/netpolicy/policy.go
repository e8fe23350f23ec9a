package netpolicy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	netutils "k8s.io/utils/net"
)

// Direction is one of the two directions in which a policy isolates the Pods that it selects.
type direction int

const (
	ingress direction = iota
	egress
)

func (d direction) String() string { return [...]string{"in", "out"}[d] }

// policy is a NetworkPolicy as it is enforced.
type policy struct {
	name types.NamespacedName
	// pods selects the Pods of the policy's namespace that it isolates.
	pods labels.Selector
	// sides are the rules of each direction, nil for one in which the policy does not isolate. One without rules allows nothing.
	sides [2]*side
}

type side struct{ rules []rule }

// rule allows traffic with any of the peers by any of the ports.
type rule struct {
	anyPeer bool
	peers   []peer
	blocks  []span
	anyPort bool
	ports   []portSpan
	named   []namedPort
}

// peer selects Pods by their labels, of one namespace or of all whose labels match.
type peer struct {
	namespace  string
	namespaces labels.Selector // nil for the one namespace
	pods       labels.Selector
}

// key is the same for peers that select the same Pods.
func (p peer) key() string {
	if p.namespaces == nil {
		return "=" + p.namespace + "|" + p.pods.String()
	}
	return "~" + p.namespaces.String() + "|" + p.pods.String()
}

// span is the addresses from first to last, both included.
type span struct{ first, last netip.Addr }

// portSpan is ports of a protocol, both ends included; all of them are 0 to 65535.
type portSpan struct {
	proto       uint8
	first, last uint16
}

// namedPort is the port that a Pod's containers name so.
type namedPort struct {
	proto uint8
	name  string
}

// maxRules is how many nft rules the policies of a namespace may take, in both directions and families together. The kernel
// keeps rules in memory that no cgroup accounts for; what a policy asks for beyond is not allowed, which is the safe side.
const maxRules = 16384

// maxPeers is how many different selectors of Pods the policies of a namespace may have. Each is a set with an element for each
// Pod that it selects.
const maxPeers = 4096

// compile returns a policy as it is enforced. The error names a part that cannot be; it allows nothing.
func compile(np *networkingv1.NetworkPolicy) (*policy, error) {
	p := &policy{name: types.NamespacedName{Namespace: np.Namespace, Name: np.Name}}
	var err error
	if p.pods, err = metav1.LabelSelectorAsSelector(&np.Spec.PodSelector); err != nil {
		// Stored before its values were checked: it selects nothing, as everywhere.
		return nil, fmt.Errorf("spec.podSelector: %w", err)
	}
	in := slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
	out := slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	if len(np.Spec.PolicyTypes) == 0 {
		in, out = true, len(np.Spec.Egress) > 0
	}
	if in {
		p.sides[ingress] = &side{}
		for i, r := range np.Spec.Ingress {
			compiled, bad := compileRule(np.Namespace, r.From, r.Ports)
			if bad != nil {
				err = fmt.Errorf("spec.ingress[%d]: %w", i, bad)
			}
			p.sides[ingress].rules = append(p.sides[ingress].rules, compiled)
		}
	}
	if out {
		p.sides[egress] = &side{}
		for i, r := range np.Spec.Egress {
			compiled, bad := compileRule(np.Namespace, r.To, r.Ports)
			if bad != nil {
				err = fmt.Errorf("spec.egress[%d]: %w", i, bad)
			}
			p.sides[egress].rules = append(p.sides[egress].rules, compiled)
		}
	}
	return p, err
}

func compileRule(namespace string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) (r rule, err error) {
	r.anyPeer, r.anyPort = len(peers) == 0, len(ports) == 0
	seen := map[string]bool{}
	for i := range peers {
		if block := peers[i].IPBlock; block != nil {
			spans, bad := spansOf(block)
			if bad != nil {
				err = fmt.Errorf("peer %d: %w", i, bad)
			}
			r.blocks = append(r.blocks, spans...)
			continue
		}
		p, bad := compilePeer(namespace, &peers[i])
		if bad != nil {
			err = fmt.Errorf("peer %d: %w", i, bad)
			continue
		}
		if key := p.key(); !seen[key] {
			seen[key] = true
			r.peers = append(r.peers, p)
		}
	}
	r.blocks = merge(r.blocks)
	for _, p := range ports {
		r.addPort(p)
	}
	r.ports = mergePorts(r.ports)
	return r, err
}

func compilePeer(namespace string, from *networkingv1.NetworkPolicyPeer) (p peer, err error) {
	p = peer{namespace: namespace, pods: labels.Everything()}
	if from.PodSelector == nil && from.NamespaceSelector == nil {
		return p, fmt.Errorf("it names no peer")
	}
	if from.PodSelector != nil {
		if p.pods, err = metav1.LabelSelectorAsSelector(from.PodSelector); err != nil {
			return p, err
		}
	}
	if from.NamespaceSelector != nil {
		p.namespace = ""
		p.namespaces, err = metav1.LabelSelectorAsSelector(from.NamespaceSelector)
	}
	return p, err
}

func (r *rule) addPort(p networkingv1.NetworkPolicyPort) {
	proto := protocol(p.Protocol)
	switch {
	case proto == 0: // of a protocol that is not known here: allows nothing
	case p.Port == nil:
		r.ports = append(r.ports, portSpan{proto, 0, 65535})
	case p.Port.Type == intstr.String:
		if n := (namedPort{proto, p.Port.StrVal}); !slices.Contains(r.named, n) {
			r.named = append(r.named, n)
		}
	case p.Port.IntVal > 0 && p.Port.IntVal <= 65535:
		s := portSpan{proto, uint16(p.Port.IntVal), uint16(p.Port.IntVal)}
		if p.EndPort != nil && *p.EndPort > p.Port.IntVal && *p.EndPort <= 65535 {
			s.last = uint16(*p.EndPort)
		}
		r.ports = append(r.ports, s)
	}
}

// protocol is the number of a protocol; TCP is the default, 0 is none that is known.
func protocol(p *corev1.Protocol) uint8 {
	if p == nil {
		return 6
	}
	return map[corev1.Protocol]uint8{corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17, corev1.ProtocolSCTP: 132}[*p]
}

func (p portSpan) any() bool { return p.first == 0 && p.last == 65535 }

// mergePorts returns the same ports in as few spans as possible, sorted.
func mergePorts(all []portSpan) []portSpan {
	slices.SortFunc(all, func(a, b portSpan) int { return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.first, b.first)) })
	var out []portSpan
	for _, p := range all {
		if n := len(out) - 1; n >= 0 && out[n].proto == p.proto && int(p.first) <= int(out[n].last)+1 {
			out[n].last = max(out[n].last, p.last)
			continue
		}
		out = append(out, p)
	}
	return out
}

// spansOf returns the addresses of a block without its exceptions.
func spansOf(b *networkingv1.IPBlock) ([]span, error) {
	all, err := parsePrefix(b.CIDR)
	if err != nil {
		return nil, err
	}
	var holes []span
	for _, except := range b.Except {
		p, err := parsePrefix(except)
		if err != nil {
			// An exception that cannot be read might be anything: nothing is allowed.
			return nil, err
		}
		if p.Overlaps(all) {
			holes = append(holes, spanOf(p))
		}
	}
	whole := spanOf(all)
	var out []span
	for _, hole := range merge(holes) {
		if whole.first.Less(hole.first) {
			out = append(out, span{whole.first, hole.first.Prev()})
		}
		if !hole.last.Less(whole.last) {
			return out, nil
		}
		if next := hole.last.Next(); whole.first.Less(next) {
			whole.first = next
		}
	}
	return append(out, whole), nil
}

// parsePrefix reads a range in CIDR notation, in the form too that objects may have that were stored before Kubernetes v1.36:
// octets with leading zeros, an address within the range (KEP-4858).
func parsePrefix(text string) (netip.Prefix, error) {
	_, n, err := netutils.ParseCIDRSloppy(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	if a.Is4In6() && bits >= 96 {
		a, bits = a.Unmap(), bits-96
	}
	return netip.PrefixFrom(a, bits).Masked(), nil
}

// spanOf is the addresses of a range.
func spanOf(p netip.Prefix) span {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return span{p.Masked().Addr(), last}
}

// merge returns the same addresses in as few spans as possible, sorted, IPv4 first.
func merge(all []span) []span {
	slices.SortFunc(all, func(a, b span) int { return a.first.Compare(b.first) })
	var out []span
	for _, s := range all {
		if n := len(out) - 1; n >= 0 && out[n].first.Is4() == s.first.Is4() {
			if next := out[n].last.Next(); !next.IsValid() || !next.Less(s.first) {
				if out[n].last.Less(s.last) {
					out[n].last = s.last
				}
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

func (p namedPort) String() string { return strconv.Itoa(int(p.proto)) + "-" + p.name }
