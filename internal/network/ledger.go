package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"podium.dev/podium/internal/paths"
)

// record is what a sandbox has of the network. It is on disk before anything of it is made in the kernel, and leaves
// the disk after all of it is gone from there, so that whatever a crash leaves is known by name.
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
}

// hostPort is one port of the node that leads to a Pod. HostIP is the unspecified address of no family (the zero Addr)
// for all addresses of the node.
type hostPort struct {
	Proto  uint8
	HostIP netip.Addr
	Host   uint16
	Pod    uint16
}

// ledger holds the records in memory and on disk and gives out addresses: each to one sandbox only, the least
// recently tried first, so that an address that was just given back rests as long as there are others.
//
// The files are not fsynced: what a power cut could lose are records of sandboxes that did not survive it either.
type ledger struct {
	dir  string
	mu   sync.Mutex
	recs map[string]*record
	used map[netip.Addr]string
	last map[int]netip.Addr
}

func ledgerDir(p paths.Paths) string { return filepath.Join(p.Network, "sandboxes") }

// openLedger reads what is on disk. A record cut short by a power cut is dropped; its sandbox is gone too.
func openLedger(dir string) (*ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the network's leases: %w", err)
	}
	l := &ledger{dir: dir, recs: map[string]*record{}, used: map[netip.Addr]string{}, last: map[int]netip.Addr{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the network's leases: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			os.Remove(path)
			continue
		}
		r, err := readRecord(path)
		if err != nil {
			return nil, err
		}
		if r == nil {
			os.Remove(path)
			continue
		}
		l.recs[r.ID] = r
		for _, ip := range r.IPs {
			l.used[ip] = r.ID
		}
	}
	for _, f := range []struct {
		family int
		name   string
	}{{4, "last-4"}, {6, "last-6"}} {
		if raw, err := os.ReadFile(filepath.Join(filepath.Dir(dir), f.name)); err == nil {
			if a, err := netip.ParseAddr(strings.TrimSpace(string(raw))); err == nil {
				l.last[f.family] = a
			}
		}
	}
	return l, nil
}

const tmpPrefix = ".tmp-"

func readRecord(path string) (*record, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a lease of the network: %w", err)
	}
	var r record
	if json.Unmarshal(raw, &r) != nil || r.ID != filepath.Base(path) {
		return nil, nil
	}
	return &r, nil
}

// get answers with a copy of the sandbox's record, nil when there is none.
func (l *ledger) get(id string) *record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.recs[id]; ok {
		c := *r
		return &c
	}
	return nil
}

// all answers with copies of all records.
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

// put keeps r, in memory and on disk.
func (l *ledger) put(r *record) error {
	if err := validID(r.ID); err != nil {
		return err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the lease of sandbox %s: %w", r.ID, err)
	}
	if err := writeFile(l.dir, r.ID, raw); err != nil {
		return fmt.Errorf("keep the lease of sandbox %s: %w", r.ID, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := *r
	l.recs[r.ID] = &c
	return nil
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

// drop forgets a sandbox and sets its addresses free. Unknown ones are no error.
func (l *ledger) drop(id string) error {
	if validID(id) != nil {
		return nil
	}
	if err := os.Remove(filepath.Join(l.dir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the lease of sandbox %s: %w", id, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.recs, id)
	for ip, owner := range l.used {
		if owner == id {
			delete(l.used, ip)
		}
	}
	return nil
}

// allocate gives the sandbox a free address of p: the one after the last given, round and round. The range's first
// address (its name), the gateway and, in IPv4, the last (broadcast) are never given.
func (l *ledger) allocate(id string, p netip.Prefix) (netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	family := 6
	end := lastOf(p)
	if p.Addr().Is4() {
		family, end = 4, end.Prev()
	}
	first := gatewayOf(p).Next()
	inRange := func(a netip.Addr) bool { return a.Compare(first) >= 0 && a.Compare(end) <= 0 }
	start := l.last[family].Next()
	if !inRange(start) {
		start = first
	}
	for a := start; ; {
		if _, taken := l.used[a]; !taken {
			l.used[a], l.last[family] = id, a
			// A lost or stale mark only shortens the rest of an address.
			_ = writeFile(filepath.Dir(l.dir), fmt.Sprintf("last-%d", family), []byte(a.String()))
			return a, nil
		}
		if a = a.Next(); !inRange(a) {
			a = first
		}
		if a == start {
			return netip.Addr{}, fmt.Errorf("no free address in the Pod range %s: %d are in use; delete Pods or give the node a larger --pod-cidr", p, len(l.used))
		}
	}
}

// validID keeps an ID from leading out of the folder.
func validID(id string) error {
	if id == "" || id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return fmt.Errorf("%q is not a sandbox ID", id)
	}
	return nil
}

// writeFile replaces dir/name in one step.
func writeFile(dir, name string, data []byte) error {
	tmp := filepath.Join(dir, tmpPrefix+name)
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, name))
}
