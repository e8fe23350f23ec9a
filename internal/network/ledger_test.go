package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAllocateGoesRound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "network", "leases")
	l, err := openLedger(path)
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

	if l, err = openLedger(path); err != nil { // the daemon starts again
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
	l, err := openLedger(filepath.Join(t.TempDir(), "network", "leases"))
	check(t, err)
	for _, want := range []string{"fd00::2", "fd00::3"} {
		ip, err := l.allocate("x", netip.MustParsePrefix("fd00::/64"))
		check(t, err)
		if ip.String() != want {
			t.Fatalf("got %s, want %s", ip, want)
		}
	}
}

func TestLedgerPassesOverWhatWasCutShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases")
	check(t, os.WriteFile(path, []byte(`{"Put":{"ID":"a","NetNS":"/a","IPs":["10.1.0.9"]}}`+"\n"+`{"Put":{"ID":"b","IPs":["10.`), 0o600))
	l, err := openLedger(path)
	check(t, err)
	if all := l.all(); len(all) != 1 || all[0].ID != "a" || all[0].IPs[0].String() != "10.1.0.9" {
		t.Errorf("records: %v", all)
	}
	check(t, l.put(&record{ID: "c"}))
	if l, err = openLedger(path); err != nil || len(l.all()) != 2 {
		t.Errorf("records: %v, %v", l.all(), err)
	}
}

func TestLedgerStaysShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases")
	l, err := openLedger(path)
	check(t, err)
	check(t, l.put(&record{ID: "stays"}))
	for range 20000 {
		check(t, l.put(&record{ID: "comes and goes", NetNS: "/proc/1234/ns/net"}))
		check(t, l.drop("comes and goes"))
	}
	info, err := os.Stat(path)
	check(t, err)
	if info.Size() > rewriteAt {
		t.Errorf("%d bytes for one record", info.Size())
	}
	if l, err = openLedger(path); err != nil || len(l.all()) != 1 {
		t.Errorf("records: %v, %v", l.all(), err)
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
