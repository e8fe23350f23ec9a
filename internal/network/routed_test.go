package network

import (
	"net/netip"
	"os"
	"testing"

	"github.com/google/nftables"

	"podium.dev/podium/internal/nft"
)

// What Pods send each other is seen by the node's forward hook, and translated back when a Pod answers one that came by
// another address: with the kernel's br_netfilter at work, and without.
func TestPodsAreRouted(t *testing.T) {
	needRoot(t)
	for _, bridged := range []string{"1", "0"} {
		t.Run("br_netfilter="+bridged, func(t *testing.T) {
			for _, family := range []string{"ip", "ip6"} {
				path := "/proc/sys/net/bridge/bridge-nf-call-" + family + "tables"
				if before, err := os.ReadFile(path); err == nil {
					check(t, os.WriteFile(path, []byte(bridged), 0))
					t.Cleanup(func() { check(t, os.WriteFile(path, before, 0)) })
				}
			}
			n := newNetwork(t, func(c *Config) { c.PodCIDRs = prefixes("10.244.7.0/24", "fd00:10:244:7::/64") })
			a, _ := pod(t, n, "a")
			b, ips := pod(t, n, "b")
			serve(t, b, "b", "tcp", ":80")
			serve(t, b, "b", "udp", ":53")
			v4, v6 := ips[0].String(), ips[1].String()
			wantAnswer(t, a, "tcp", v4+":80", "b from 10.244.7.2")
			wantAnswer(t, a, "tcp", "["+v6+"]:80", "b from fd00:10:244:7::2")

			c, err := nftables.New()
			check(t, err)
			table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "routed-test"}
			service := c.AddTable(table)
			t.Cleanup(func() { c.DelTable(table); check(t, c.Flush()) })
			pre := c.AddChain(&nftables.Chain{Name: "pre", Table: service, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
			c.AddRule(&nftables.Rule{Table: service, Chain: pre, Exprs: nft.All(nft.MatchAddress(nft.Dst, netip.MustParseAddr("10.96.0.9")), nft.TCPPort(80), nft.DNAT(netip.AddrPortFrom(ips[0], 80)))})
			check(t, c.Flush())
			wantAnswer(t, a, "tcp", "10.96.0.9:80", "b from 10.244.7.2")

			drop := nftables.ChainPolicyDrop
			c.AddChain(&nftables.Chain{Name: "forward", Table: service, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
			check(t, c.Flush())
			wantAnswer(t, a, "tcp", v4+":80", "")
			wantAnswer(t, a, "udp", v4+":53", "")
			wantAnswer(t, a, "tcp", "["+v6+"]:80", "")
			wantAnswer(t, ownNS, "tcp", v4+":80", "b from 10.244.7.1")
		})
	}
}
