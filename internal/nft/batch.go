package nft

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
)

// maxBatch is how many elements one transaction changes at most. A transaction is one message to the kernel, which takes
// no longer one than the socket's buffer: 208 kB on a machine that grants no more than the default
// (net.core.wmem_default), and an element takes up to 100 bytes.
const maxBatch = 2000

// Batch is a transaction in the making, or several one after the other when it has more elements than go into one: then
// each of them holds what was added before. Nothing is sent before Commit but what is too much.
type Batch struct {
	c     *nftables.Conn
	count int
	err   error
}

// socketBuffer is the size in bytes that the sockets of transactions ask for; the kernel may grant less. A transaction of
// the largest size brings back one message for each part of it.
const socketBuffer = 4 << 20

// NewBatch begins a transaction.
func NewBatch() (*Batch, error) {
	c, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		// What is refused leaves the default, which is enough for maxBatch.
		_ = c.SetWriteBuffer(socketBuffer)
		_ = c.SetReadBuffer(socketBuffer)
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("reach nftables: %w", err)
	}
	return &Batch{c: c}, nil
}

// Table adds a table, empty, in the place of one of its name.
func (b *Batch) Table(t *nftables.Table) {
	b.c.AddTable(t)
	b.c.DelTable(t)
	b.c.AddTable(t)
}

// Set adds a set without elements.
func (b *Batch) Set(s *nftables.Set) {
	if b.err == nil {
		b.err = b.c.AddSet(s, nil)
	}
}

// Chain adds a chain, or makes the rules of one that is there those given.
func (b *Batch) Chain(ch *nftables.Chain, there bool, rules [][]expr.Any) {
	if there {
		b.c.FlushChain(ch)
	} else {
		b.c.AddChain(ch)
	}
	for _, r := range rules {
		b.c.AddRule(&nftables.Rule{Table: ch.Table, Chain: ch, Exprs: r})
	}
}

// DropChain deletes a chain with its rules.
func (b *Batch) DropChain(ch *nftables.Chain) {
	b.c.FlushChain(ch)
	b.c.DelChain(ch)
}

// Add adds elements to a set.
func (b *Batch) Add(s *nftables.Set, elements []nftables.SetElement) {
	b.elements(s, elements, addElements)
}

// Drop deletes elements from a set.
func (b *Batch) Drop(s *nftables.Set, elements []nftables.SetElement) {
	b.elements(s, elements, dropElements)
}

// Replace makes elements that are there have other values.
func (b *Batch) Replace(s *nftables.Set, elements []nftables.SetElement) {
	for part := range slices.Chunk(elements, maxElements) {
		keys := make([]nftables.SetElement, len(part))
		for i, e := range part {
			keys[i] = nftables.SetElement{Key: e.Key, KeyEnd: e.KeyEnd}
		}
		b.elements(s, part, func(c *nftables.Conn, s *nftables.Set, part []nftables.SetElement) error {
			if err := dropElements(c, s, keys); err != nil {
				return err
			}
			return addElements(c, s, part)
		})
	}
}

func (b *Batch) elements(s *nftables.Set, elements []nftables.SetElement, describe func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) {
	for part := range slices.Chunk(elements, maxElements) {
		if b.count+len(part) > maxBatch {
			b.Commit()
		}
		if b.err == nil {
			b.err = describe(b.c, s, part)
		}
		b.count += len(part)
	}
}

// Commit sends the transaction and returns the first error of all of its parts. The Batch can be used for another one
// unless there was an error.
func (b *Batch) Commit() error {
	if b.err == nil {
		b.err = b.c.Flush()
	}
	b.count = 0
	return b.err
}
