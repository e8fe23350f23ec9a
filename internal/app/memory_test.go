package app

import (
	"slices"
	"strings"
	"testing"
)

func TestCleanAreas(t *testing.T) {
	const smaps = `00400000-00401000 r--p 00000000 08:01 7 /usr/bin/podium
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
00401000-00480000 r-xp 00001000 08:01 7 /usr/bin/podium
Anonymous:             0 kB
00480000-00490000 r--p 00080000 08:01 7 /usr/bin/podium
Anonymous:             4 kB
00490000-004a0000 rw-p 00090000 08:01 7 /usr/bin/podium
Anonymous:             0 kB
7f0000000000-7f0000010000 r-xp 00000000 08:01 9 /usr/lib/libc.so.6
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:          4096 kB
`
	got, err := cleanAreas(strings.NewReader(smaps), "/usr/bin/podium")
	if err != nil {
		t.Fatal(err)
	}
	if want := []area{{0x400000, 0x401000}, {0x401000, 0x480000}}; !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestDropProgramPages(t *testing.T) {
	if err := dropProgramPages(); err != nil {
		t.Fatal(err)
	}
}
