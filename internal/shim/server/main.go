// Package server is a Pod's shim: the process that outlives the daemon. Its memory is paid once a Pod, so it imports
// little, keeps few goroutines (one a stream, one a connection, one a container's memory, one reaper) and no buffer that
// is not in use.
package server

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/inherit"
	"podium.dev/podium/internal/shim"
)

// Main runs the shim of the folder it is started in until the sandbox is stopped, and returns the exit code. Its
// first connection is inherited; if that ends before a sandbox was started, so does the shim.
func Main() int {
	// The heap is a few hundred KiB. Collecting it costs nearly 300 KiB for the collector's own, so that is left until
	// there is more than that to gain.
	debug.SetGCPercent(20)
	if err := inherit.Only(shim.FirstConnFD); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	conn, err := shim.NewConn(shim.FirstConnFD)
	if err != nil {
		fmt.Fprintln(os.Stderr, "this program is started by Podium and does nothing for anyone else:", err)
		return 2
	}
	if err := becomeParent(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s := newServer()
	if err := s.listen(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go s.serve(conn, true)
	go s.accept()
	<-s.ended
	return 0
}

// becomeParent makes the shim the parent of all orphans below it, and deaf to signals meant for others: only Stop and
// SIGKILL end it. Signals are caught, not ignored, because what is ignored stays so in the containers.
func becomeParent() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl(PR_SET_CHILD_SUBREAPER)", err)
	}
	deaf := make(chan os.Signal, 1) // never read
	signal.Notify(deaf, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	return nil
}
