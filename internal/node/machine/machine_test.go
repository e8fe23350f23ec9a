package machine

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestRead(t *testing.T) {
	f, err := Read(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q := f.Capacity[r]; q.Sign() <= 0 {
			t.Errorf("no %s", r)
		}
	}
	if f.Hostname == "" || f.BootID == "" || f.KernelVersion == "" {
		t.Errorf("incomplete: %+v", f)
	}
}

func TestPrettyName(t *testing.T) {
	for text, want := range map[string]string{
		"NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n": "Debian GNU/Linux 12 (bookworm)",
		"PRETTY_NAME=Alpine": "Alpine",
		"":                   "Linux",
	} {
		if got := prettyName([]byte(text)); got != want {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

func TestKiBField(t *testing.T) {
	text := []byte("MemTotal:       24089012 kB\nSwapTotal:             0 kB\n")
	if got := kibField(text, "MemTotal"); got != 24089012<<10 {
		t.Errorf("got %d", got)
	}
	if got := kibField(text, "SwapTotal"); got != 0 {
		t.Errorf("got %d", got)
	}
}

func TestHugePages(t *testing.T) {
	dir := t.TempDir()
	for size, n := range map[string]string{"hugepages-2048kB": "3\n", "hugepages-1048576kB": "0\n"} {
		if err := os.MkdirAll(filepath.Join(dir, size), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, size, "nr_hugepages"), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := corev1.ResourceList{}
	addHugePages(c, dir)
	for name, want := range map[corev1.ResourceName]string{"hugepages-2Mi": "6Mi", "hugepages-1Gi": "0"} {
		if got := c[name]; got.String() != want {
			t.Errorf("%s: got %s, want %s", name, got.String(), want)
		}
	}
}

func TestNodeIPs(t *testing.T) {
	ips, err := NodeIPs()
	if err != nil || len(ips) == 0 {
		t.Errorf("got %v, %v", ips, err)
	}
}
