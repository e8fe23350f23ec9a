package service

import (
	"net/netip"
	"testing"
)

// A range has its API server's address, its last address, and a part that is kept for requested addresses.
func TestRange(t *testing.T) {
	for _, tc := range []struct {
		within, first, last string
		kept                uint32
	}{
		{"10.96.0.0/16", "10.96.0.1", "10.96.255.255", 256},
		{"10.0.0.0/8", "10.0.0.1", "10.255.255.255", 256},
		{"192.168.7.0/24", "192.168.7.1", "192.168.7.255", 16},
		{"192.168.7.128/25", "192.168.7.129", "192.168.7.255", 16},
		{"192.168.7.16/29", "192.168.7.17", "192.168.7.23", 2},
	} {
		p := pool{netip.MustParsePrefix(tc.within)}
		if first, last, kept := p.nth(1).String(), p.nth(p.size()-1).String(), chosen(p.size()); first != tc.first || last != tc.last || kept != tc.kept {
			t.Errorf("%s: from %s to %s, %d kept; expected %s, %s, %d", tc.within, first, last, kept, tc.first, tc.last, tc.kept)
		}
	}
}
