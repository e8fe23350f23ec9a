package network

import (
	"fmt"

	"github.com/google/nftables"
)

// foreignDrops names the chains of other programs that drop what is forwarded unless they know it, as Docker's and
// many firewalls' do: an accept of ours does not undo their drop, and their tables are not ours to change.
func foreignDrops() ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("reach nftables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list the nftables chains: %w", err)
	}
	var out []string
	for _, ch := range chains {
		if ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
			out = append(out, ch.Table.Name+" "+ch.Name)
		}
	}
	return out, nil
}
