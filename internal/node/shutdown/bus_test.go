package shutdown

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

const busSettings = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>`

// privateBus starts a D-Bus of the test's own and returns how to connect to it, and a connection.
func privateBus(t *testing.T) (func() (*dbus.Conn, error), *dbus.Conn) {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("needs dbus-daemon (apt-get install dbus-daemon)")
	}
	dir := t.TempDir()
	settings := filepath.Join(dir, "bus.conf")
	socket := filepath.Join(dir, "s")
	if err := os.WriteFile(settings, []byte(strings.ReplaceAll(busSettings, "SOCKET", socket)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config-file="+settings, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it listens
		t.Fatal(err)
	}
	connect := func() (*dbus.Conn, error) { return dbus.Connect("unix:path=" + socket) }
	conn, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return connect, conn
}

// newLogin puts a logind, and of systemd what is asked of it, on a bus of the test's own.
// It waits delay at most for those who hold up a shutdown.
func newLogin(t *testing.T, delay time.Duration) *login {
	t.Helper()
	bus, conn := privateBus(t)
	l := &login{bus: bus, conn: conn, delay: delay, dir: t.TempDir(), asked: make(chan struct{}, 10)}
	for _, e := range []struct {
		path  dbus.ObjectPath
		iface string
	}{
		{loginPath, loginManager}, {loginPath, "org.freedesktop.DBus.Properties"}, {systemdPath, systemdManager},
	} {
		if err := conn.Export(l, e.path, e.iface); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{loginName, systemdName} {
		if r, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
			t.Fatalf("take the name %s: %v, %v", name, r, err)
		}
	}
	return l
}
