package network

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

const cniList = `{
  "cniVersion": "1.0.0", "name": "reference",
  "plugins": [
    {"type": "bridge", "bridge": "cni-ref0", "isGateway": true, "capabilities": {"portMappings": true},
     "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
  ]
}`

// needPlugins skips without the reference plugins (Debian: containernetworking-plugins).
func needPlugins(t *testing.T) {
	t.Helper()
	needRoot(t)
	if _, err := os.Stat("/usr/lib/cni/bridge"); err != nil {
		t.Skip("needs the reference CNI plugins in /usr/lib/cni")
	}
	t.Cleanup(func() { _ = delLink("cni-ref0") })
}

func TestCNITakesTheBuiltinsPlace(t *testing.T) {
	needPlugins(t)
	n := newNetwork(t, nil)
	t.Cleanup(func() { check(t, delLink("cni-ref0")) })
	early, earlyIPs := pod(t, n, "early")
	if !n.cfg.PodCIDRs[0].Contains(earlyIPs[0]) {
		t.Fatalf("before there is a configuration: %v", earlyIPs)
	}
	data := t.TempDir()
	conf := filepath.Join(n.cfg.Paths.CNIConf, "10-reference.conflist")
	check(t, os.WriteFile(conf, []byte(fmt.Sprintf(cniList, data)), 0o644))
	eventually(t, "the configuration is in force", func() bool {
		list, err := n.cni.current()
		return err == nil && list != nil
	})
	check(t, n.Ready())
	a, ips := pod(t, n, "a")
	b, _ := pod(t, n, "b")
	if ips[0].String() != "10.88.0.2" {
		t.Errorf("addresses %v", ips)
	}
	serve(t, a, "a", "tcp", ":80")
	wantAnswer(t, b, "tcp", "10.88.0.2:80", "a from 10.88.0.3")
	wantAnswer(t, a, "tcp", "127.0.0.1:80", "a from 127.0.0.1")

	// Again for the same sandbox, also by a daemon started again: the same answer, and no second ADD.
	n.Close()
	again, err := New(n.cfg)
	check(t, err)
	defer again.Close()
	r, err := again.Setup(t.Context(), Request{ID: "a", NetNSPath: a})
	check(t, err)
	if len(r.IPs) != 1 || r.IPs[0] != ips[0] {
		t.Errorf("a second set-up gave %v", r.IPs)
	}
	// The Pod of the built-in network is torn down as what it is, those of CNI with the configuration of their time.
	check(t, os.Remove(conf))
	eventually(t, "the built-in network is back", func() bool {
		list, err := again.cni.current()
		return err == nil && list == nil
	})
	for range 2 {
		check(t, again.Teardown(t.Context(), "early", early))
		check(t, again.Teardown(t.Context(), "a", a))
		check(t, again.Teardown(t.Context(), "b", ""))
	}
	left, _ := filepath.Glob(filepath.Join(data, "reference", "10.88.*"))
	if len(left) != 0 || len(again.ledger.all()) != 0 {
		t.Errorf("left: %v, %v", left, again.ledger.all())
	}
	if _, ips := pod(t, again, "late"); !n.cfg.PodCIDRs[0].Contains(ips[0]) {
		t.Errorf("after the configuration went: %v", ips)
	}
}

func TestRemoveTakesDownCNIPods(t *testing.T) {
	needPlugins(t)
	data := t.TempDir()
	p := testPaths(t)
	check(t, os.MkdirAll(p.CNIConf, 0o755))
	check(t, os.WriteFile(filepath.Join(p.CNIConf, "10-reference.conflist"), []byte(fmt.Sprintf(cniList, data)), 0o644))
	n, err := New(Config{Paths: p})
	check(t, err)
	if _, err := netlink.LinkByName(n.builtin.bridge.name); err == nil {
		t.Error("a bridge was made although CNI serves")
	}
	pod(t, n, "a")
	check(t, n.Remove(t.Context()))
	if left, _ := filepath.Glob(filepath.Join(data, "reference", "10.88.*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if there, err := n.tablesThere(); err != nil || there {
		t.Errorf("the table is still there: %v, %v", there, err)
	}
}

func TestLoadCNI(t *testing.T) {
	good := fmt.Sprintf(cniList, "/data")
	for name, tc := range map[string]struct {
		files   map[string]string
		want    string
		wantErr string
	}{
		"none":                {},
		"others' files":       {files: map[string]string{"README": "hello", "10-x.conflist.bak": "{"}},
		"a list":              {files: map[string]string{"10-a.conflist": good}, want: "reference"},
		"the first by name":   {files: map[string]string{"20-a.conflist": good, "10-b.conf": `{"cniVersion":"1.0.0","name":"single","type":"bridge"}`}, want: "single"},
		"a broken one first":  {files: map[string]string{"10-a.conflist": "{", "20-b.conflist": good}, want: "reference"},
		"only a broken one":   {files: map[string]string{"10-a.conflist": "{"}, wantErr: "10-a.conflist"},
		"a list named .conf":  {files: map[string]string{"10-a.conf": good}, wantErr: "10-a.conf"},
		"a list of no plugin": {files: map[string]string{"10-a.conflist": `{"cniVersion":"1.0.0","name":"x","plugins":[]}`}, wantErr: "no plugin"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for f, text := range tc.files {
				check(t, os.WriteFile(filepath.Join(dir, f), []byte(text), 0o644))
			}
			list, err := loadCNI(dir)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("error %v, want one about %s", err, tc.wantErr)
				}
				return
			}
			check(t, err)
			got := ""
			if list != nil {
				got = list.Name
			}
			if got != tc.want {
				t.Errorf("network %q, want %q", got, tc.want)
			}
		})
	}
}
