package services

import (
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"

	"podium.dev/podium/internal/nft"
)

// phase orders what is written, for the case that it is more than one transaction takes: a front is there when all that
// it leads to is, and what it leads to goes when it has gone.
var phases = [2][]kind{
	{endpoints, endpointSet, sources, hairpins},
	{refused, refusedPorts, clusterIPs, fromOutside, byAddress, portFromOutside, byNodePort},
}

// write makes changes in the table that is there. shapes are those of all fronts after them, have those whose chains are
// there.
func (t *table) write(c *changes, shapes map[string]int, have map[string]bool) error {
	b, err := nft.NewBatch()
	if err != nil {
		return err
	}
	t.addShapes(b, shapes, have)
	put, replaced, drop := map[set][]nftables.SetElement{}, map[set][]nftables.SetElement{}, map[set][]nftables.SetElement{}
	for sl, val := range c.put {
		at := set{sl.kind, sl.v4}
		if c.had[sl] {
			replaced[at] = append(replaced[at], setElement(sl, val))
		} else {
			put[at] = append(put[at], setElement(sl, val))
		}
	}
	for sl := range c.drop {
		at := set{sl.kind, sl.v4}
		drop[at] = append(drop[at], setElement(sl, ""))
	}
	for i, phase := range phases {
		for _, k := range phase {
			for _, v4 := range t.families() {
				s, at := t.set(k, v4), set{k, v4}
				b.Replace(s, replaced[at])
				if i == 1 {
					b.Drop(s, drop[at])
				}
				b.Add(s, put[at])
			}
		}
	}
	for _, k := range phases[0] {
		for _, v4 := range t.families() {
			b.Drop(t.set(k, v4), drop[set{k, v4}])
		}
	}
	t.dropShapes(b, shapes, have)
	if err := b.Commit(); err != nil {
		return fmt.Errorf("write the Services' nftables table: %w", err)
	}
	clear(have)
	for s := range shapes {
		have[s] = true
	}
	return t.forgetClients(c)
}

// forgetClients deletes what is remembered of clients of endpoints that are gone. Until then the rules do not use it, and
// remember nothing else of these clients.
func (t *table) forgetClients(c *changes) error {
	for _, v4 := range t.families() {
		gone := map[string]bool{}
		for sl := range c.drop {
			if sl.kind == endpointSet && sl.v4 == v4 {
				gone[sl.key] = true
			}
		}
		if len(gone) == 0 {
			continue
		}
		conn, err := nftables.New()
		if err != nil {
			return fmt.Errorf("reach nftables: %w", err)
		}
		clients, err := conn.GetSetElements(t.affinity(v4))
		if err != nil {
			return fmt.Errorf("read the clients that have affinity: %w", err)
		}
		stale := slices.DeleteFunc(clients, func(e nftables.SetElement) bool { return !gone[string(e.Key[:4])+string(e.Val)] })
		for i, e := range stale {
			stale[i] = nftables.SetElement{Key: e.Key}
		}
		if err := nft.Delete(nft.Change{Set: t.affinity(v4), Elements: stale}); err != nil {
			return fmt.Errorf("forget clients of endpoints that are gone: %w", err)
		}
	}
	return nil
}

// set is one of the sets of the table.
type set struct {
	kind kind
	v4   bool
}

func (t *table) addShapes(b *nft.Batch, shapes map[string]int, have map[string]bool) {
	for _, key := range slices.Sorted(maps.Keys(shapes)) {
		if !have[key] {
			s := shapeOf(key)
			b.Chain(t.plainChain(s.chain()), false, t.shapeRules(s))
			b.Add(t.shapes(), []nftables.SetElement{shapeElement(key)})
		}
	}
}

func (t *table) dropShapes(b *nft.Batch, shapes map[string]int, have map[string]bool) {
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if shapes[key] == 0 {
			b.Drop(t.shapes(), []nftables.SetElement{shapeElement(key)})
			b.DropChain(t.plainChain(shapeOf(key).chain()))
		}
	}
}

// reconcile makes the table what it must be, whatever is there of it, and returns the shapes whose chains are there
// then. A table of this layout is kept, with the clients that it remembers; of its elements only those that differ are
// touched, and packets find it whole at any time.
func (t *table) reconcile(want map[slot]string, shapes map[string]int) (have map[string]bool, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("reach nftables: %w", err)
	}
	have = map[string]bool{}
	ch := newChanges()
	if t.stands(c) {
		if err := t.read(c, want, have, ch); err != nil {
			return nil, err
		}
		if err := t.rewriteRules(have); err != nil {
			return nil, err
		}
	} else {
		ch.put = want
		if err := t.create(); err != nil {
			return nil, err
		}
	}
	return have, t.write(ch, shapes, have)
}

// stands reports whether the kernel has the table with the sets and chains of this layout.
func (t *table) stands(c *nftables.Conn) bool {
	spec := nft.Table{Table: t.ref(), Chains: t.chains()}
	for _, s := range t.sets() {
		spec.Sets = append(spec.Sets, nft.Set{Set: s})
	}
	return nft.Contains(c, spec)
}

// create makes the table without elements.
func (t *table) create() error {
	b, err := nft.NewBatch()
	if err != nil {
		return err
	}
	b.Table(t.ref())
	for i, s := range t.sets() {
		s.ID = uint32(i + 1)
		b.Set(s)
	}
	for _, ch := range t.chains() {
		b.Chain(ch.Chain, false, nil)
	}
	for _, ch := range t.chains() {
		b.Chain(ch.Chain, true, ch.Rules)
	}
	if err := b.Commit(); err != nil {
		return fmt.Errorf("make the Services' nftables table: %w (are the kernel's modules nft_nat, nft_fib_inet, nft_numgen, nft_masq and nft_reject_inet there?)", err)
	}
	return nil
}

// read notes in ch how the elements that are there differ from those wanted, and in have the shapes that are there.
func (t *table) read(c *nftables.Conn, want map[slot]string, have map[string]bool, ch *changes) error {
	there := map[slot]string{}
	for _, v4 := range t.families() {
		for k := range kinds {
			elements, err := c.GetSetElements(t.set(k, v4))
			if err != nil {
				return fmt.Errorf("read the Services' nftables table: %w", err)
			}
			for _, e := range elements {
				key := string(e.Key)
				if k == sources && len(e.KeyEnd) > 4 {
					key += string(e.KeyEnd[4:])
				}
				there[slot{k, v4, key}] = string(e.Val)
			}
		}
	}
	for sl, val := range want {
		if old, ok := there[sl]; !ok || old != val {
			ch.set(sl, val, ok)
		}
	}
	for sl := range there {
		if _, ok := want[sl]; !ok {
			ch.remove(sl)
		}
	}
	elements, err := c.GetSetElements(t.shapes())
	if err != nil {
		return fmt.Errorf("read the Services' nftables table: %w", err)
	}
	for _, e := range elements {
		have[string(e.Key)] = true
	}
	return nil
}

// rewriteRules writes the rules of the chains that are there again: an earlier start may have had other ports and ranges.
func (t *table) rewriteRules(shapes map[string]bool) error {
	b, err := nft.NewBatch()
	if err != nil {
		return err
	}
	for _, ch := range t.chains() {
		b.Chain(ch.Chain, true, ch.Rules)
	}
	for key := range shapes {
		s := shapeOf(key)
		b.Chain(t.plainChain(s.chain()), true, t.shapeRules(s))
	}
	if err := b.Commit(); err != nil {
		return fmt.Errorf("write the rules of the Services' nftables table: %w", err)
	}
	return nil
}
