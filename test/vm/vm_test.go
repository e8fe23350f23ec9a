package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"podium.dev/podium/test/vm/plan"
)

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "deep", "file"), []byte("12345"), 0o750); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := newArchive(&out)
	a.bytes("etc/a", 0o644, []byte("abc"))
	a.symlink("bin/sh", "busybox")
	a.device("dev/console", 0o600, 5, 1)
	a.tree("src", dir)
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for b := out.Bytes(); ; {
		e, rest := readEntry(t, b)
		if e.name == "TRAILER!!!" {
			break
		}
		got = append(got, e.name+" "+e.mode+" "+e.body)
		b = rest
	}
	want := []string{
		"etc 000041ed ", "etc/a 000081a4 abc", "bin 000041ed ", "bin/sh 0000a1ff busybox", "dev 000041ed ", "dev/console 00002180 ",
		"src 000041ed ", "src/deep 000041ed ", "src/deep/file 000081e8 12345",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}

	broken := newArchive(&out)
	broken.file("x", filepath.Join(dir, "none"))
	broken.bytes("y", 0o644, nil)
	if err := broken.close(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

type entry struct{ name, mode, body string }

// readEntry reads the first entry of an archive.
func readEntry(t *testing.T, b []byte) (e entry, rest []byte) {
	t.Helper()
	if string(b[:6]) != "070701" {
		t.Fatalf("no entry begins with %q", b[:6])
	}
	number := func(at int) (n int) {
		for _, c := range b[6+8*at : 14+8*at] {
			n = n<<4 + strings.IndexByte("0123456789abcdef", c)
		}
		return n
	}
	aligned := func(n int) int { return (n + 3) &^ 3 }
	size, length := number(6), number(11)
	body := aligned(headerSize + length)
	e = entry{name: string(b[headerSize : headerSize+length-1]), mode: string(b[14:22]), body: string(b[body : body+size])}
	return e, b[aligned(body+size):]
}

func TestModules(t *testing.T) {
	if got := dependencies([]byte("license=GPL\x00depends=nf_tables,nf-nat\x00name=x\x00")); !slices.Equal(got, []string{"nf_tables", "nf_nat"}) {
		t.Errorf("depends: %q", got)
	}
	if got := dependencies([]byte("depends=\x00")); got != nil {
		t.Errorf("depends on nothing: %q", got)
	}
	if got := moduleName("kernel/net/bridge/br-net_filter.ko"); got != "br_net_filter" {
		t.Error(got)
	}
	needs := map[string][]string{"bridge": {"stp", "llc"}, "stp": {"llc"}, "llc": nil, "veth": nil, "lost": {"none"}}
	builtin := map[string]bool{"ext4": true}
	got, err := inOrder([]string{"veth", "ext4", "bridge", "stp"}, needs, builtin)
	if err != nil || !slices.Equal(got, []string{"veth", "llc", "stp", "bridge"}) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := inOrder([]string{"lost"}, needs, builtin); err == nil || err.Error() != "module none, which lost needs, does not exist" {
		t.Errorf("a module that is not there: %v", err)
	}
	for name, want := range map[string]bool{
		"boot/vmlinuz-6.1": true, "boot/config-6.1": false, "usr/share/doc/x": false, "lib/modules/6.1/modules.builtin": true,
		"usr/lib/modules/6.1/kernel/net/llc.ko": true, "lib/modules/6.1/kernel/drivers/net/ethernet/e1000.ko": false,
	} {
		if kept(name) != want {
			t.Errorf("%s: kept %v", name, !want)
		}
	}
}

func TestReport(t *testing.T) {
	for name, tc := range map[string]struct {
		lines   []string
		summary string
		shown   []string
	}{
		"all is well": {
			[]string{"\x16=== RUN   TestA", "a log", "\x16=== RUN   TestA/sub", "\x16    --- PASS: TestA/sub (0.00s)", "\x16--- PASS: TestA (0.10s)",
				"\x16=== RUN   TestB", "\x16--- SKIP: TestB (0.00s)", "PASS", end("")},
			"1 passed, 0 failed, 1 skipped", []string{"ok    internal/x TestA (0.10s)\n", "skip  internal/x TestB\n"},
		},
		"output goes with its test, also when tests alternate": {
			[]string{"\x16=== RUN   TestA", "one", "\x16=== RUN   TestB", "two", "\x16=== NAME  TestA", "three", "\x16--- PASS: TestB (0.10s)",
				"\x16--- FAIL: TestA (1.00s)", end("exit status 1")},
			"1 passed, 1 failed, 0 skipped", []string{"FAIL  internal/x TestA (1.00s)\n      one\n      three\n"},
		},
		"output without a new line before the result": {
			[]string{"\x16=== RUN   TestA", "half a line\x16--- PASS: TestA (0.00s)", end("")},
			"1 passed, 0 failed, 0 skipped", nil,
		},
		"a leak fails the step": {
			[]string{"\x16=== RUN   TestA", "\x16--- PASS: TestA (0.10s)", "left on the machine: mount", end("exit status 1")},
			"1 passed, 1 failed, 0 skipped", []string{"FAIL  internal/x: exit status 1\n", "left on the machine: mount"},
		},
		"a test that does not end": {
			[]string{"\x16=== RUN   TestA", "\x16=== RUN   TestB", "\x16--- PASS: TestB (0.10s)", end("signal: killed")},
			"1 passed, 1 failed, 0 skipped", []string{"TestA did not end\n"},
		},
		"no test at all": {
			[]string{"testing: warning: no tests to run", end("")},
			"0 passed, 1 failed, 0 skipped", []string{"no test ran"},
		},
	} {
		var out bytes.Buffer
		r := newReport(&out)
		r.line(plan.Mark{Kind: plan.Start, Name: "internal/x"}.String())
		for _, l := range tc.lines {
			r.line(l)
		}
		if got := r.summary(); got != tc.summary {
			t.Errorf("%s: %s, want %s", name, got, tc.summary)
		}
		for _, want := range tc.shown {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q is not in\n%s", name, want, out.String())
			}
		}
	}
}

func end(failure string) string {
	return plan.Mark{Kind: plan.End, Name: "internal/x", Took: time.Second, Err: failure}.String()
}

func TestStep(t *testing.T) {
	s := suite{dir: "internal/x", run: "TestA", skip: "TestB", timeout: time.Minute}.step()
	if s.Dir != "/podium/src/internal/x" || s.Name != "internal/x" || s.Timeout <= time.Minute ||
		!slices.Equal(s.Args, []string{"/podium/src/internal/x/x.test", "-test.v=test2json", "-test.timeout=1m0s", "-test.parallel=2", "-test.run=TestA", "-test.skip=TestB"}) {
		t.Errorf("%+v", s)
	}
	all := []suite{{dir: "a"}, {dir: "b", run: "TestB"}}
	if got := choose(all, "b", ""); len(got) != 1 || got[0].run != "TestB" {
		t.Errorf("%+v", got)
	}
	if got := choose(all, "", "TestC"); len(got) != 2 || got[1].run != "TestC" {
		t.Errorf("%+v", got)
	}
}
