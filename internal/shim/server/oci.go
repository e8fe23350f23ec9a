package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// ociRequest and ociResult are package bundle's Request and Result, whose other types this process is better without.
type ociRequest struct {
	ID       string
	Exec     bool     `json:",omitempty"`
	Args     []string `json:",omitempty"`
	Terminal bool     `json:",omitempty"`
}

type ociResult struct {
	PID      int
	Cgroups  map[string]string
	UID, GID uint32
	Groups   []uint32
	Notes    []string
	Error    string
}

// startTimeout is how long the start of a process may take. It takes milliseconds; but where containers share a PID
// namespace, one that has the right to may stop the process that becomes another, and nothing would end that wait. It
// is the time that the kubelet has for a request to the runtime (runtimeRequestTimeout).
const startTimeout = 2 * time.Minute

// oci runs the short-lived program in a container's folder with the given standard streams (and the console's socket,
// if any) and returns what it says. The new process is the shim's child from when that program has ended, so the
// caller has called reaper.begin. With mounts, the program gets a mount namespace of its own.
func (s *server) oci(dir string, req ociRequest, files []*os.File, mounts bool) (ociResult, error) {
	var res ociResult
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return res, os.NewSyscallError("socketpair", err)
	}
	child := os.NewFile(uintptr(pair[1]), "request")
	defer child.Close()
	if err := unix.SetNonblock(pair[0], true); err != nil {
		_ = unix.Close(pair[0])
		return res, err
	}
	sock := os.NewFile(uintptr(pair[0]), "result")
	defer sock.Close()

	attr := &syscall.ProcAttr{Dir: dir, Env: []string{"GOMAXPROCS=2", "GOGC=off"}, Sys: &syscall.SysProcAttr{}}
	for _, f := range files {
		attr.Files = append(attr.Files, blocking(f))
	}
	attr.Files = append(attr.Files[:3:3], append([]uintptr{child.Fd()}, attr.Files[3:]...)...)
	if mounts {
		attr.Sys.Cloneflags = unix.CLONE_NEWNS
	}
	pid, exited, err := s.reaper.fork(s.programs.OCI, []string{"podium-oci"}, attr)
	if err != nil {
		return res, err
	}
	_ = child.Close() // so that its end is seen
	if err := ask(sock, req, &res, s.startTimeout); err != nil {
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if late {
			_ = unix.Kill(pid, unix.SIGKILL) // it has not ended, so nobody has its number
		}
		exit := <-exited
		if late {
			return res, &shim.StartError{Message: fmt.Sprintf("it was not started within %v: something keeps its first process from running", s.startTimeout)}
		}
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("it ended with code %d", exit.Code)
		}
		return res, fmt.Errorf("hear from podium-oci: %w", err)
	}
	if res.Error != "" {
		<-exited
		return res, &shim.StartError{Message: res.Error}
	}
	return res, nil
}

// ask sends the request and reads the result.
func ask(sock *os.File, req ociRequest, res *ociResult, within time.Duration) error {
	if err := sock.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if err := json.NewEncoder(sock).Encode(req); err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	return json.NewDecoder(sock).Decode(res)
}

// blocking returns the descriptor of a file that is handed to another program, which expects it to block.
func blocking(f *os.File) uintptr {
	fd := f.Fd()
	_ = unix.SetNonblock(int(fd), false)
	return fd
}
