package app

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

func TestListenersIn(t *testing.T) {
	const text = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0000000000000000 100 0 0 10 0
   1: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0000000000000000 100 0 0 10 0
   2: 0200007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1 0000000000000000 100 0 0 10 0
   3: 0100007F:192B 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 14 1 0000000000000000 100 0 0 10 0
   4: 0100007F:192C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 15 1 0000000000000000 100 0 0 10 0
   5: 00000000000000000000000000000000:192B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16 1
   6: 00000000000000000000000001000000:192B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1
   7: short
`
	for at, want := range map[string][]string{
		"127.0.0.1:6443": {"socket:[11]", "socket:[12]", "socket:[16]"},
		"0.0.0.0:6443":   {"socket:[11]", "socket:[12]", "socket:[13]", "socket:[16]", "socket:[17]"},
		"[::1]:6443":     {"socket:[12]", "socket:[16]", "socket:[17]"},
		"127.0.0.1:1":    nil,
	} {
		if got := listenersIn([]byte(text), netip.MustParseAddrPort(at)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", at, got, want)
		}
	}
}

func TestListenersOfThisMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err := listeners(l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}
