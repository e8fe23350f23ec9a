package shutdown

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
	"k8s.io/utils/clock"
)

// The names of org.freedesktop.login1(5) and org.freedesktop.systemd1(5).
const (
	loginName      = "org.freedesktop.login1"
	loginPath      = "/org/freedesktop/login1"
	loginManager   = loginName + ".Manager"
	systemdName    = "org.freedesktop.systemd1"
	systemdPath    = "/org/freedesktop/systemd1"
	systemdManager = systemdName + ".Manager"
	loginUnit      = "systemd-logind.service"
)

// errNoLogind is that this machine has none, or no system bus.
var errNoLogind = errors.New("systemd-logind does not run here")

// logind is a connection to systemd-logind.
type logind struct {
	conn    *dbus.Conn
	signals chan *dbus.Signal
	lock    *os.File // nil while none is held
}

// dial reaches logind and hears from then on of shutdowns. The error wraps errNoLogind where there is none.
func dial(ctx context.Context, bus func() (*dbus.Conn, error)) (*logind, error) {
	conn, err := bus()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoLogind, err)
	}
	l := &logind{conn: conn, signals: make(chan *dbus.Signal, 8)}
	conn.Signal(l.signals)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(loginManager), dbus.WithMatchMember("PrepareForShutdown"), dbus.WithMatchObjectPath(loginPath))
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen for shutdowns: %w", err)
	}
	return l, nil
}

// close lets the shutdown go on, as far as it is this node that delays it, and ends the connection.
func (l *logind) close() {
	l.release()
	_ = l.conn.Close()
}

// delay is how long logind waits at most for those who delay a shutdown.
func (l *logind) delay() (time.Duration, error) {
	v, err := l.conn.Object(loginName, loginPath).GetProperty(loginManager + ".InhibitDelayMaxUSec")
	var name dbus.Error
	if errors.As(err, &name) && (name.Name == "org.freedesktop.DBus.Error.ServiceUnknown" || name.Name == "org.freedesktop.DBus.Error.NameHasNoOwner") {
		return 0, fmt.Errorf("%w: %w", errNoLogind, err)
	}
	if err != nil {
		return 0, fmt.Errorf("ask systemd-logind for InhibitDelayMaxUSec: %w", err)
	}
	micros, ok := v.Value().(uint64)
	if !ok {
		return 0, fmt.Errorf("InhibitDelayMaxUSec of systemd-logind is a %T, not a number", v.Value())
	}
	return time.Duration(micros) * time.Microsecond, nil
}

// settingsFile is where logind is told to wait for longer, in its folder of settings.
const settingsFile = "99-podium.conf"

// prolong has logind wait for so long: it is written into its settings, which it is made to read again. Logind says
// nothing when it has, so it is asked until it has, a few times.
func (l *logind) prolong(ctx context.Context, want time.Duration, dir string, c clock.Clock) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("# Written by podium: the Pods of this node have so long to end at a shutdown.\n[Login]\nInhibitDelayMaxSec=%.0f\n", want.Seconds())
	if err := os.WriteFile(filepath.Join(dir, settingsFile), []byte(text), 0o644); err != nil {
		return err
	}
	const hangup int32 = 1
	if err := l.conn.Object(systemdName, systemdPath).CallWithContext(ctx, systemdManager+".KillUnit", 0, loginUnit, "all", hangup).Err; err != nil {
		return fmt.Errorf("have systemd-logind read its settings again: %w", err)
	}
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		now, err := l.delay()
		if err != nil || now >= want {
			return err
		}
		if wait > 2*time.Second {
			return fmt.Errorf("systemd-logind waits %v at most for Pods to end, not %v: another file in %s may say so", now, want, dir)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.After(wait):
		}
	}
}

// inhibit delays shutdowns until release, in place of what was held before.
func (l *logind) inhibit(ctx context.Context) error {
	var fd dbus.UnixFD
	call := l.conn.Object(loginName, loginPath).CallWithContext(ctx, loginManager+".Inhibit", 0, "shutdown", "podium", "the node's Pods need time to end", "delay")
	if err := call.Store(&fd); err != nil {
		return fmt.Errorf("ask systemd-logind to delay shutdowns: %w", err)
	}
	l.release()
	l.lock = os.NewFile(uintptr(fd), "inhibitor lock")
	return nil
}

// release lets a shutdown go on.
func (l *logind) release() {
	if l.lock != nil {
		_ = l.lock.Close()
		l.lock = nil
	}
}

// next waits for the next word of a shutdown: true that one begins, false that it was called off. The error says that
// the connection was lost.
func (l *logind) next(ctx context.Context) (bool, error) {
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case s, ok := <-l.signals:
			if !ok {
				return false, errors.New("the connection to the system bus was lost")
			}
			if s.Name != loginManager+".PrepareForShutdown" || len(s.Body) != 1 {
				continue
			}
			if begins, ok := s.Body[0].(bool); ok {
				return begins, nil
			}
		}
	}
}
