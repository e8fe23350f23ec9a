package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAllocateGoesRound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandboxes")
	l, err := openLedger(dir)
	check(t, err)
	p := netip.MustParsePrefix("10.1.0.0/29") // .2 to .6
	take := func(id, want string) {
		t.Helper()
		ip, err := l.allocate(id, p)
		check(t, err)
		if ip.String() != want {
			t.Fatalf("%s got %s, want %s", id, ip, want)
		}
		check(t, l.put(&record{ID: id, IPs: []netip.Addr{ip}}))
	}
	take("a", "10.1.0.2")
	take("b", "10.1.0.3")
	check(t, l.drop("a"))
	take("c", "10.1.0.4")

	if l, err = openLedger(dir); err != nil { // the daemon starts again
		t.Fatal(err)
	}
	take("d", "10.1.0.5")
	take("e", "10.1.0.6")
	take("f", "10.1.0.2")
	if _, err := l.allocate("g", p); err == nil || !strings.Contains(err.Error(), "no free address in the Pod range 10.1.0.0/29") {
		t.Fatalf("a full range: %v", err)
	}
	check(t, l.drop("d"))
	check(t, l.drop("d"))
	take("g", "10.1.0.5")
}

func TestAllocateIPv6(t *testing.T) {
	l, err := openLedger(filepath.Join(t.TempDir(), "sandboxes"))
	check(t, err)
	for _, want := range []string{"fd00::2", "fd00::3"} {
		ip, err := l.allocate("x", netip.MustParsePrefix("fd00::/64"))
		check(t, err)
		if ip.String() != want {
			t.Fatalf("got %s, want %s", ip, want)
		}
	}
}

func TestLedgerDropsWhatWasCutShort(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandboxes")
	check(t, os.MkdirAll(dir, 0o700))
	check(t, os.WriteFile(filepath.Join(dir, "a"), []byte(`{"ID":"a","IPs":["10.`), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, tmpPrefix+"b"), []byte(`{`), 0o600))
	l, err := openLedger(dir)
	check(t, err)
	if len(l.all()) != 0 {
		t.Errorf("records: %v", l.all())
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
}

func TestValidID(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "a/b", "../x", ".hidden"} {
		if validID(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if err := validID("0123456789abcdef"); err != nil {
		t.Error(err)
	}
}
