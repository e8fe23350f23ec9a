package network

import (
	"reflect"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

func TestDifference(t *testing.T) {
	e := func(key, val string) nftables.SetElement {
		return nftables.SetElement{Key: []byte(key), Val: []byte(val)}
	}
	have := []nftables.SetElement{e("same", "1"), e("moved", "1"), e("gone", "1")}
	want := []nftables.SetElement{e("twice", "1"), e("same", "1"), e("moved", "2"), e("new", "1"), e("twice", "2")}
	add, drop := difference(have, want)
	if !reflect.DeepEqual(add, []nftables.SetElement{e("moved", "2"), e("new", "1"), e("twice", "2")}) {
		t.Errorf("add %v", add)
	}
	if !reflect.DeepEqual(drop, []nftables.SetElement{e("moved", "1"), e("gone", "1")}) {
		t.Errorf("drop %v", drop)
	}
	if add, drop := difference(want[:4], want[:4]); add != nil || drop != nil {
		t.Errorf("nothing to do: add %v, drop %v", add, drop)
	}
}

// A table of the right shape is kept, and what differs is changed; one of another shape is replaced.
func TestTablesAreKept(t *testing.T) {
	needRoot(t)
	n := newNetwork(t, nil)
	pod(t, n, "a")
	// An element with a comment, which one that is written again would not have.
	spec := n.builtin.specsLocked()[1]
	set := spec.sets[0]
	set.elements[0].Comment = "kept"
	check(t, deleteElements(change{set.Set, set.elements}))
	check(t, sendChanges(unix.NFT_MSG_NEWSETELEM, change{set.Set, set.elements}))
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
