package network

import (
	"testing"

	"github.com/google/nftables"

	"podium.dev/podium/internal/nft"
)

// A table of the right shape is kept, and what differs is changed; one of another shape is replaced.
func TestTablesAreKept(t *testing.T) {
	needRoot(t)
	n := newNetwork(t, nil)
	pod(t, n, "a")
	// An element with a comment, which one that is written again would not have.
	spec := n.builtin.specsLocked()[1]
	set := spec.Sets[0]
	set.Elements[0].Comment = "kept"
	check(t, nft.Delete(nft.Change{Set: set.Set, Elements: set.Elements}))
	check(t, nft.Add(nft.Change{Set: set.Set, Elements: set.Elements}))
	kept := func() bool {
		t.Helper()
		c, err := nftables.New()
		check(t, err)
		all, err := c.GetSetElements(set.Set)
		check(t, err)
		if len(all) != 1 {
			t.Errorf("%d elements", len(all))
		}
		return len(all) == 1 && all[0].Comment == "kept"
	}
	check(t, n.builtin.writeTables())
	if !kept() {
		t.Error("the table was replaced")
	}
	c, err := nftables.New()
	check(t, err)
	c.AddChain(&nftables.Chain{Table: spec.Table, Name: "older"})
	check(t, c.Flush())
	check(t, n.builtin.writeTables())
	if kept() {
		t.Error("a table with a chain that it should not have was kept")
	}
}
