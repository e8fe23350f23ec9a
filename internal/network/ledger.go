package network

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/util/atomicfile"
)

// record is what a sandbox has of the network. It is kept before anything of it is made in the kernel, and forgotten
// after all of it is gone from there, so that whatever a crash leaves is known by name.
type record struct {
	ID        string
	Namespace string `json:",omitempty"`
	Name      string `json:",omitempty"`
	UID       string `json:",omitempty"`
	// CNI is the name of the CNI network that serves the sandbox; empty for the built-in one.
	CNI string `json:",omitempty"`
	// NetNS is the path of the network namespace as last named.
	NetNS string
	IPs   []netip.Addr `json:",omitempty"`
	Ports []hostPort   `json:",omitempty"`
	// Bandwidth is what the link was last limited to.
	Bandwidth Bandwidth
	// done says that set-up came to its end while this process ran; what an earlier one began is done again.
	done bool
	// leaving is set while the sandbox's network is taken away.
	leaving bool
}

// hostPort is one port of the node that leads to a Pod. HostIP is the zero Addr for all addresses of the node.
type hostPort struct {
	Proto  uint8
	HostIP netip.Addr
	Host   uint16
	Pod    uint16
}

// ledger holds the records and gives out addresses: each to one sandbox only, the least recently tried first, so that
// an address that was just given back rests as long as there are others.
//
// On disk it is a journal: a line is written for each change, and the file is written again when it is opened and
// when most of it is past. A line costs a hundredth of what a file would. Nothing is fsynced: what a power cut could
// take are records of sandboxes that did not survive it either, and the kernel keeps what a killed daemon wrote.
type ledger struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int // bytes in the file
	recs map[string]*record
	used map[netip.Addr]string
	last map[int]netip.Addr // by address length
}

// entry is a line of the journal; one of its fields is set.
type entry struct {
	Put  *record    `json:",omitempty"`
	Drop string     `json:",omitempty"`
	Last netip.Addr `json:",omitzero"`
}

// ledgerPath is where the ledger of a node is.
func ledgerPath(p paths.Paths) string { return filepath.Join(p.Network, "leases") }

// rewriteAt is the size from which a journal that is mostly past is written again.
const rewriteAt = 256 << 10

// openLedger reads what is on disk. A last line cut short is as if it had not been written.
func openLedger(path string) (*ledger, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the network's leases: %w", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read the network's leases: %w", err)
	}
	l := &ledger{path: path, recs: map[string]*record{}, used: map[netip.Addr]string{}, last: map[int]netip.Addr{}}
	for line := range bytes.Lines(raw) {
		var e entry
		if json.Unmarshal(line, &e) == nil {
			l.replay(e)
		}
	}
	if err := l.rewrite(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Close()
}

func (l *ledger) replay(e entry) {
	switch {
	case e.Put != nil:
		l.recs[e.Put.ID] = e.Put
		for _, ip := range e.Put.IPs {
			l.used[ip] = e.Put.ID
		}
	case e.Drop != "":
		l.forget(e.Drop)
	case e.Last.IsValid():
		l.last[e.Last.BitLen()] = e.Last
	}
}

// rewrite writes the journal again, as short as it can be.
func (l *ledger) rewrite() error {
	var all []byte
	for _, ip := range l.last {
		all = append(all, encode(entry{Last: ip})...)
	}
	for _, r := range l.recs {
		all = append(all, encode(entry{Put: r})...)
	}
	if err := atomicfile.Write(l.path, all, 0o600, atomicfile.Crash); err != nil {
		return fmt.Errorf("write the network's leases: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open the network's leases: %w", err)
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.size = f, len(all)
	return nil
}

func encode(e entry) []byte {
	// These types have nothing that cannot be encoded.
	raw, _ := json.Marshal(e)
	return append(raw, '\n')
}

// write adds a line to the journal.
func (l *ledger) write(e entry) error {
	line := encode(e)
	if _, err := l.file.Write(line); err != nil {
		return fmt.Errorf("write the network's leases: %w", err)
	}
	if l.size += len(line); l.size < rewriteAt || l.size < 2048*len(l.recs) {
		return nil
	}
	return l.rewrite()
}

// get returns a copy of the sandbox's record, nil when there is none.
func (l *ledger) get(id string) *record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.recs[id]; ok {
		c := *r
		return &c
	}
	return nil
}

// all returns copies of all records.
func (l *ledger) all() []*record {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*record, 0, len(l.recs))
	for _, r := range l.recs {
		c := *r
		out = append(out, &c)
	}
	return out
}

// put keeps r.
func (l *ledger) put(r *record) error {
	if err := validID(r.ID); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := *r
	l.recs[r.ID] = &c
	return l.write(entry{Put: &c})
}

// settle notes that the sandbox's set-up came to its end.
func (l *ledger) settle(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.recs[id]; ok {
		r.done = true
		return nil
	}
	return fmt.Errorf("sandbox %s has no lease", id)
}

// leave notes that the sandbox's network is being taken away. Unknown sandboxes are no error.
func (l *ledger) leave(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.recs[id]; ok {
		r.done, r.leaving = false, true
	}
}

// drop forgets a sandbox and sets its addresses free. Unknown ones are no error.
func (l *ledger) drop(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.recs[id]
	l.forget(id)
	if !known {
		return nil
	}
	return l.write(entry{Drop: id})
}

func (l *ledger) forget(id string) {
	delete(l.recs, id)
	for ip, owner := range l.used {
		if owner == id {
			delete(l.used, ip)
		}
	}
}

// allocate gives the sandbox a free address of p: the one after the last given, round and round. The range's first
// address (its name), the gateway and, in IPv4, the last (broadcast) are never given. It is kept with the sandbox's
// record.
func (l *ledger) allocate(id string, p netip.Prefix) (netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := lastOf(p)
	if p.Addr().Is4() {
		end = end.Prev()
	}
	first := gatewayOf(p).Next()
	inRange := func(a netip.Addr) bool { return a.Compare(first) >= 0 && a.Compare(end) <= 0 }
	start := l.last[first.BitLen()].Next()
	if !inRange(start) {
		start = first
	}
	for a := start; ; {
		if _, taken := l.used[a]; !taken {
			l.used[a], l.last[a.BitLen()] = id, a
			return a, l.write(entry{Last: a})
		}
		if a = a.Next(); !inRange(a) {
			a = first
		}
		if a == start {
			return netip.Addr{}, fmt.Errorf("no free address in the Pod range %s: %d are in use; delete Pods or give the node a larger --pod-cidr", p, len(l.used))
		}
	}
}

// validID reports whether an ID is one that a file may be named by; CNI plugins do.
func validID(id string) error {
	if id == "" || id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return fmt.Errorf("%q is not a sandbox ID", id)
	}
	return nil
}
