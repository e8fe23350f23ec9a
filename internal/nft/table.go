package nft

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Table is one of the node's nftables tables as it must be.
type Table struct {
	*nftables.Table
	Sets   []Set
	Chains []Chain
}

// Set is a set or map of a table and all of its elements.
type Set struct {
	*nftables.Set
	Elements []nftables.SetElement
}

// Chain is a chain of a table and its rules.
type Chain struct {
	*nftables.Chain
	Rules [][]expr.Any
}

// maxElements is how many elements go into one message: the length of a netlink attribute is 16 bits, and the largest
// element takes some 100 bytes.
const maxElements = 256

// Write makes the tables what the arguments say, all in one transaction: no packet sees half of it. A table that is
// there is kept: its rules are written again, of its sets only the elements that differ are touched. A table of another
// shape, such as an earlier version's, is replaced.
func Write(tables ...Table) error {
	if err := sendTables(true, tables); err == nil {
		return nil
	}
	return sendTables(false, tables)
}

func sendTables(keep bool, specs []Table) error {
	c, err := connect()
	if err != nil {
		return err
	}
	setID := uint32(0)
	for _, s := range specs {
		// Numbered here: the library's own counter is not safe for several tables at once.
		for _, set := range s.Sets {
			setID++
			set.ID = setID
		}
		if keep && s.standsIn(c) {
			err = s.update(c)
		} else {
			err = s.replace(c)
		}
		if err != nil {
			return fmt.Errorf("describe the nftables table %s: %w", s.Name, err)
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("write the node's nftables tables: %w (are the kernel's nf_tables modules there, nft_nat and the bridge family among them?)", err)
	}
	return nil
}

// standsIn reports whether the kernel has the table with just these sets and chains.
func (s Table) standsIn(c *nftables.Conn) bool {
	all, err := c.ListChainsOfTableFamily(s.Family)
	if err != nil {
		return false
	}
	all = slices.DeleteFunc(all, func(ch *nftables.Chain) bool { return ch.Table.Name != s.Name })
	sets, err := c.GetSets(s.Table)
	return err == nil && s.sameShape(all, sets)
}

// Contains reports whether the kernel has the table with the sets and chains of the argument, whatever rules and elements
// they hold and whatever other chains the table has.
func Contains(c *nftables.Conn, t Table) bool {
	all, err := c.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return false
	}
	all = slices.DeleteFunc(all, func(ch *nftables.Chain) bool {
		return ch.Table.Name != t.Name || !slices.ContainsFunc(t.Chains, func(w Chain) bool { return w.Name == ch.Name })
	})
	sets, err := c.GetSets(t.Table)
	return err == nil && t.sameShape(all, sets)
}

// sameShape reports whether chains and sets are those of the spec, whatever rules and elements they hold.
func (s Table) sameShape(chains []*nftables.Chain, sets []*nftables.Set) bool {
	if len(chains) != len(s.Chains) || len(sets) != len(s.Sets) {
		return false
	}
	for _, want := range s.Chains {
		if !slices.ContainsFunc(chains, func(have *nftables.Chain) bool {
			return have.Name == want.Name && have.Type == want.Type && equal(have.Hooknum, want.Hooknum) && equal(have.Priority, want.Priority)
		}) {
			return false
		}
	}
	for _, want := range s.Sets {
		if !slices.ContainsFunc(sets, func(have *nftables.Set) bool {
			if have.Name != want.Name || have.IsMap != want.IsMap {
				return false
			}
			// The library reads the types of a map of verdicts wrongly.
			return want.DataType.GetNFTMagic() == nftables.TypeVerdict.GetNFTMagic() || have.KeyType.GetNFTMagic() == want.KeyType.GetNFTMagic() && have.DataType.GetNFTMagic() == want.DataType.GetNFTMagic()
		}) {
			return false
		}
	}
	return true
}

func equal[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// replace puts the table in place of one of its name.
func (s Table) replace(c *nftables.Conn) error {
	c.AddTable(s.Table)
	c.DelTable(s.Table)
	c.AddTable(s.Table)
	for _, set := range s.Sets {
		if err := c.AddSet(set.Set, nil); err != nil {
			return err
		}
	}
	for _, ch := range s.Chains {
		c.AddChain(ch.Chain)
	}
	// After the chains, to which elements of verdict maps may lead.
	for _, set := range s.Sets {
		if err := addElements(c, set.Set, set.Elements); err != nil {
			return err
		}
	}
	s.addRules(c)
	return nil
}

// update makes the table that is there what the spec says.
func (s Table) update(c *nftables.Conn) error {
	for _, set := range s.Sets {
		have, err := c.GetSetElements(set.Set)
		if err != nil {
			return err
		}
		add, drop := difference(have, set.Elements)
		if err := dropElements(c, set.Set, drop); err != nil {
			return err
		}
		if err := addElements(c, set.Set, add); err != nil {
			return err
		}
	}
	for _, ch := range s.Chains {
		c.FlushChain(ch.Chain)
	}
	s.addRules(c)
	return nil
}

func (s Table) addRules(c *nftables.Conn) {
	for _, ch := range s.Chains {
		for _, r := range ch.Rules {
			c.AddRule(&nftables.Rule{Table: s.Table, Chain: ch.Chain, Exprs: r})
		}
	}
}

func addElements(c *nftables.Conn, set *nftables.Set, elements []nftables.SetElement) error {
	for part := range slices.Chunk(elements, maxElements) {
		if err := c.SetAddElements(set, part); err != nil {
			return err
		}
	}
	return nil
}

func dropElements(c *nftables.Conn, set *nftables.Set, elements []nftables.SetElement) error {
	for part := range slices.Chunk(elements, maxElements) {
		if err := c.SetDeleteElements(set, part); err != nil {
			return err
		}
	}
	return nil
}

// difference returns what must be added to the elements of a set, and what dropped before, for it to hold those wanted.
// Of several with one key the last counts.
func difference(have, want []nftables.SetElement) (add, drop []nftables.SetElement) {
	wanted := make(map[string]nftables.SetElement, len(want))
	for _, e := range want {
		wanted[string(e.Key)] = e
	}
	for _, e := range have {
		w, ok := wanted[string(e.Key)]
		if ok && bytes.Equal(value(w), value(e)) {
			delete(wanted, string(e.Key))
			continue
		}
		drop = append(drop, nftables.SetElement{Key: e.Key, IntervalEnd: e.IntervalEnd})
	}
	for _, e := range want {
		w, ok := wanted[string(e.Key)]
		if ok && bytes.Equal(value(w), value(e)) {
			add = append(add, e)
			delete(wanted, string(e.Key))
		}
	}
	return add, drop
}

// value is what an element leads to. The library reads that of a verdict map's as the attributes of the verdict.
func value(e nftables.SetElement) []byte {
	if e.VerdictData == nil {
		return e.Val
	}
	attrs := []netlink.Attribute{{Type: unix.NFTA_VERDICT_CODE, Data: binaryutil.BigEndian.PutUint32(uint32(e.VerdictData.Kind))}}
	if chain := e.VerdictData.Chain; chain != "" {
		attrs = append(attrs, netlink.Attribute{Type: unix.NFTA_VERDICT_CHAIN, Data: append([]byte(chain), 0)})
	}
	raw, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return nil // only lengths that a name has not
	}
	return raw
}

// Change is elements to be added to a set or deleted from it.
type Change struct {
	Set      *nftables.Set
	Elements []nftables.SetElement
}

// Add adds elements, all or none. An element that is there with another value is an error.
func Add(changes ...Change) error {
	return sendChanges(addElements, changes)
}

// Delete deletes elements. Those that are not there are no error.
func Delete(changes ...Change) error {
	err := sendChanges(dropElements, changes)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	var errs []error
	for _, ch := range changes {
		for _, e := range ch.Elements {
			one := []Change{{ch.Set, []nftables.SetElement{e}}}
			if err := sendChanges(dropElements, one); !errors.Is(err, unix.ENOENT) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Replace deletes elements and adds others, in one transaction: no packet sees it half done. An element to be deleted that is
// not there is an error, as is one to be added that is there with another value.
func Replace(drop, add []Change) error {
	c, err := connect()
	if err != nil {
		return err
	}
	for _, ch := range drop {
		if err := dropElements(c, ch.Set, ch.Elements); err != nil {
			return err
		}
	}
	for _, ch := range add {
		if err := addElements(c, ch.Set, ch.Elements); err != nil {
			return err
		}
	}
	return c.Flush()
}

// transactionBuffer is how much a transaction may take on its way to the kernel, which takes it whole: some 200 000 elements.
const transactionBuffer = 32 << 20

func connect() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithSockOptions(func(s *netlink.Conn) error { return s.SetWriteBuffer(transactionBuffer) }))
	if err != nil {
		return nil, fmt.Errorf("reach nftables: %w", err)
	}
	return c, nil
}

// sendChanges adds or deletes elements, all or none.
func sendChanges(describe func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error, changes []Change) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("reach nftables: %w", err)
	}
	for _, ch := range changes {
		if err := describe(c, ch.Set, ch.Elements); err != nil {
			return err
		}
	}
	return c.Flush()
}

// families are the families in which a node has tables.
var families = []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyBridge}

// Remove deletes the node's tables of a name, in all families. One that is not there is no error.
func Remove(name string) error {
	var errs []error
	for _, family := range families {
		c, err := nftables.New()
		if err != nil {
			return fmt.Errorf("reach nftables: %w", err)
		}
		c.DelTable(&nftables.Table{Family: family, Name: name})
		// A kernel without the bridge family has no table in it.
		if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
			errs = append(errs, fmt.Errorf("delete the nftables table %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Exist reports whether all of the tables are there.
func Exist(tables ...Table) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("reach nftables: %w", err)
	}
	for _, s := range tables {
		have, err := c.ListTablesOfFamily(s.Family)
		if err != nil {
			return false, fmt.Errorf("list the nftables tables: %w", err)
		}
		if !slices.ContainsFunc(have, func(t *nftables.Table) bool { return t.Name == s.Name }) {
			return false, nil
		}
	}
	return true, nil
}
