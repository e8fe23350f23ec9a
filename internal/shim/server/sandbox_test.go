package server

import "testing"

func TestPauseWords(t *testing.T) {
	for said, want := range map[string]string{
		"set sysctl net.ipv4.ip_local_reserved_ports=1024 15999: errno 22": "set sysctl net.ipv4.ip_local_reserved_ports=1024 15999: invalid argument",
		"set sysctl kernel.x=1: errno 2":                                   "set sysctl kernel.x=1: no such file or directory",
		"set sysctl a=: errno 3: errno 1":                                  "set sysctl a=: errno 3: operation not permitted",
		"unmount the old root":                                             "unmount the old root",
		"odd: errno x":                                                     "odd: errno x",
	} {
		if got := pauseWords(said); got != want {
			t.Errorf("pauseWords(%q) = %q, want %q", said, got, want)
		}
	}
}
