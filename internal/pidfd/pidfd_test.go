package pidfd

import (
	"os"
	"os/exec"
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Signals that arrive during the wait do not end it before its time, nor before the process.
func TestAwaitOverSignals(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, unix.SIGUSR1)
	defer signal.Stop(taken)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				_ = unix.Kill(os.Getpid(), unix.SIGUSR1)
			}
		}
	}()
	for range 3 {
		if ended, err := Await(fd, 50*time.Millisecond); ended || err != nil {
			t.Errorf("while it runs: %v, %v", ended, err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if ended, err := Await(fd, 10*time.Second); !ended || err != nil {
		t.Errorf("after its end: %v, %v", ended, err)
	}
}
