package cri

import (
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSignals(t *testing.T) {
	for name, want := range map[string]unix.Signal{
		"SIGTERM": 15, "term": 15, "15": 15, "SIGKILL": 9, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "SIGRTMINPLUS3": 37, "SIGRTMAX": 64,
		"SIGRTMAX-2": 62, "SIGRTMAXMINUS2": 62, "SIGCLD": unix.SIGCHLD, "SIGPOLL": unix.SIGIO, "": 0, "0": 0, "65": 0, "-1": 0, "nonsense": 0,
		"SIGRTMIN+99": 0, "SIGRTMINx": 0,
	} {
		if got := signalNumber(name); got != want {
			t.Errorf("signalNumber(%q) = %d, want %d", name, got, want)
		}
	}
	for n := unix.Signal(1); n <= 64; n++ {
		if n == 32 || n == 33 {
			continue // libc's own
		}
		name := signalName(n)
		if signalNumber(name) != n {
			t.Errorf("signal %d is named %q, which is %d", n, name, signalNumber(name))
		}
		if criSignal(name) == 0 && n != 16 {
			t.Errorf("CRI has no signal %q (%d)", name, n)
		}
	}
	for _, tc := range []struct {
		config runtimeapi.Signal
		image  string
		want   string
	}{
		{0, "", "SIGTERM"}, {0, "SIGQUIT", "SIGQUIT"}, {0, "3", "SIGQUIT"}, {0, "junk", "SIGTERM"}, {0, "SIGRTMIN+3", "SIGRTMINPLUS3"},
		{runtimeapi.Signal_SIGNAL_SIGUSR1, "SIGQUIT", "SIGUSR1"},
	} {
		if got := stopSignalName(tc.config, tc.image); got != tc.want {
			t.Errorf("stopSignalName(%v, %q) = %q, want %q", tc.config, tc.image, got, tc.want)
		}
	}
}

func TestResolvConf(t *testing.T) {
	host := func(string) ([]byte, error) { return []byte("nameserver 1.1.1.1\n"), nil }
	none := func(string) ([]byte, error) { return nil, fs.ErrNotExist }
	broken := func(string) ([]byte, error) { return nil, errors.New("broken") }
	for _, tc := range []struct {
		dns  *runtimeapi.DNSConfig
		read func(string) ([]byte, error)
		want string
		err  bool
	}{
		{nil, host, "nameserver 1.1.1.1\n", false},
		{&runtimeapi.DNSConfig{}, none, "", false},
		{nil, broken, "", true},
		{&runtimeapi.DNSConfig{Servers: []string{"a", "b"}}, broken, "nameserver a\nnameserver b\n", false},
		{&runtimeapi.DNSConfig{Searches: []string{"x", "y"}, Options: []string{"ndots:5"}}, broken, "search x y\noptions ndots:5\n", false},
	} {
		got, err := resolvConf(tc.dns, tc.read)
		if string(got) != tc.want || (err != nil) != tc.err {
			t.Errorf("resolvConf(%v) = %q, %v", tc.dns, got, err)
		}
	}
}

func TestCheckLines(t *testing.T) {
	for name, c := range map[string]*runtimeapi.PodSandboxConfig{
		"hostname": {Hostname: "a\n10.0.0.1 b"},
		"server":   {DnsConfig: &runtimeapi.DNSConfig{Servers: []string{"1.1.1.1\noptions x"}}},
		"search":   {DnsConfig: &runtimeapi.DNSConfig{Searches: []string{"a\rb"}}},
		"option":   {DnsConfig: &runtimeapi.DNSConfig{Options: []string{"ndots:1", "x\nnameserver 6.6.6.6"}}},
	} {
		if err := checkLines(c); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := checkLines(&runtimeapi.PodSandboxConfig{Hostname: "a.b", DnsConfig: &runtimeapi.DNSConfig{Options: []string{"ndots:1 timeout:2"}}}); err != nil {
		t.Error(err)
	}
}

func TestParseNetDev(t *testing.T) {
	const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:    2000      20    3    0    0     0          0         0      400      40    5    0    0     0       0          0
  net1:       7       1    0    0    0     0          0         0        8       1    0    0    0     0       0          0
`
	u := parseNetDev(table, 42)
	d := u.DefaultInterface
	if u.Timestamp != 42 || d.GetName() != "eth0" || d.RxBytes.Value != 2000 || d.RxErrors.Value != 3 || d.TxBytes.Value != 400 || d.TxErrors.Value != 5 {
		t.Errorf("default = %v", d)
	}
	if len(u.Interfaces) != 1 || u.Interfaces[0].Name != "net1" || u.Interfaces[0].TxBytes.Value != 8 {
		t.Errorf("others = %v", u.Interfaces)
	}
}

func TestMergeResources(t *testing.T) {
	was := &runtimeapi.LinuxContainerResources{CpuShares: 2, MemoryLimitInBytes: 5, Unified: map[string]string{"a": "1", "b": "1"}, HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 1}}}
	got := mergeResources(was, &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 7, Unified: map[string]string{"b": "2"}, HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 9}}})
	if got.CpuShares != 2 || got.MemoryLimitInBytes != 7 || got.Unified["a"] != "1" || got.Unified["b"] != "2" || len(got.HugepageLimits) != 1 || got.HugepageLimits[0].Limit != 9 {
		t.Errorf("merged = %v", got)
	}
	if was.MemoryLimitInBytes != 5 || was.Unified["b"] != "1" {
		t.Errorf("what was is changed: %v", was)
	}
}

func TestFind(t *testing.T) {
	m := map[string]int{"abc": 1, "abd": 2, "x": 3}
	for id, want := range map[string]int{"abc": 1, "x": 3, "abd": 2} {
		if got, err := find(m, "thing", id); err != nil || got != want {
			t.Errorf("find(%q) = %d, %v", id, got, err)
		}
	}
	for _, id := range []string{"ab", "", "abcd", "q"} {
		if got, err := find(m, "thing", id); err == nil {
			t.Errorf("find(%q) = %d", id, got)
		}
	}
}
