package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remotecommandserver "k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"podium.dev/podium/internal/shim"
)

// Exec returns the URL at which the streams of a command in the container are.
func (r *Runtime) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	c, err := r.store.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if st := c.get().State; st != stateRunning {
		return nil, status.Errorf(codes.FailedPrecondition, "container is in %s state", criState(st))
	}
	return r.streaming.GetExec(req)
}

// execStreams runs a command with the given streams, any of which may be nil, until it has ended and its output is
// delivered. An exit code other than 0 is a utilexec.ExitError. The command is killed when ctx ends.
func (r *Runtime) execStreams(ctx context.Context, id string, cmd []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommandserver.TerminalSize) error {
	if tty {
		return r.execTerminal(ctx, id, cmd, in, out, resize)
	}
	files, pipes, err := openPipes(in != nil)
	if err != nil {
		return err
	}
	defer pipes.close()
	p, err := r.exec(ctx, id, shim.ExecRequest{Args: cmd}, files...)
	closeFiles(files)
	if err != nil {
		return err
	}
	if in != nil {
		go func() {
			_, _ = io.Copy(pipes.stdin, in)
			_ = pipes.stdin.Close()
		}()
	}
	var copies sync.WaitGroup
	deliver(&copies, out, pipes.stdout)
	deliver(&copies, errs, pipes.stderr)
	return p.finish(ctx, &copies, pipes.stdout, pipes.stderr)
}

// finish waits for the process's end and for its output.
func (p *process) finish(ctx context.Context, copies *sync.WaitGroup, outputs ...*output) error {
	select {
	case exit := <-p.exited:
		for _, o := range outputs {
			o.end()
		}
		delivered := make(chan struct{})
		go func() {
			copies.Wait()
			close(delivered)
		}()
		select {
		case <-delivered:
		case <-ctx.Done(): // another process goes on writing, or the client does not read
			return ctx.Err()
		}
		if exit.Code == 0 {
			return nil
		}
		return &utilexec.CodeExitError{Err: fmt.Errorf("error executing command %v, exit code %d", p.id, exit.Code), Code: exit.Code}
	case <-ctx.Done():
		p.kill()
		return ctx.Err()
	}
}

// deliver copies what a process writes to who wants it; what nobody wants is read and dropped.
func deliver(wg *sync.WaitGroup, to io.Writer, from *output) {
	wg.Add(1)
	go func() {
		defer wg.Done()
		if to != nil {
			_, _ = io.Copy(to, from)
		}
		from.unwanted.Store(true)
		_, _ = io.Copy(io.Discard, from)
	}()
}

// pipes are our ends of a process's standard streams.
type pipes struct {
	stdin          *os.File // nil for none
	stdout, stderr *output
}

func (p *pipes) close() {
	if p.stdin != nil {
		_ = p.stdin.Close()
	}
	for _, o := range []*output{p.stdout, p.stderr} {
		if o != nil {
			_ = o.Close()
		}
	}
}

// openPipes makes pipes and returns the process's ends, stdin first.
func openPipes(stdin bool) (files []*os.File, p *pipes, err error) {
	p = &pipes{}
	defer func() {
		if err != nil {
			closeFiles(files)
			p.close()
		}
	}()
	var r *os.File
	if stdin {
		r, p.stdin, err = os.Pipe()
	} else {
		r, err = os.Open(os.DevNull)
	}
	if err != nil {
		return nil, p, err
	}
	files = append(files, r)
	for _, o := range []**output{&p.stdout, &p.stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return files, p, err
		}
		*o, files = &output{File: r}, append(files, w)
	}
	return files, p, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// execTerminal runs a command with a terminal, whose master comes over a socket.
func (r *Runtime) execTerminal(ctx context.Context, id string, cmd []string, in io.Reader, out io.Writer, resize <-chan remotecommandserver.TerminalSize) error {
	ours, theirs, err := consoleSockets()
	if err != nil {
		return err
	}
	defer ours.Close()
	p, err := r.exec(ctx, id, shim.ExecRequest{Args: cmd, TTY: true}, theirs)
	_ = theirs.Close()
	if err != nil {
		return err
	}
	master, err := receiveTerminal(ours)
	if err != nil {
		p.kill()
		return err
	}
	defer master.Close()
	stop := followSize(ctx, master, resize)
	defer stop()
	if in != nil {
		go func() { _, _ = io.Copy(master, in) }()
	}
	terminal := &output{File: master}
	var copies sync.WaitGroup
	deliver(&copies, out, terminal)
	return p.finish(ctx, &copies, terminal)
}

func consoleSockets() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(pair[0]), "console"), os.NewFile(uintptr(pair[1]), "console"), nil
}

// receiveTerminal takes the terminal's master, which is there once the process was started.
func receiveTerminal(sock *os.File) (*os.File, error) {
	oob, name := make([]byte, unix.CmsgSpace(4)), make([]byte, 4096)
	_, n, _, _, err := unix.Recvmsg(int(sock.Fd()), name, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("receive the terminal", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) == 0 {
		return nil, errors.New("receive the terminal: none was sent")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return nil, errors.New("receive the terminal: none was sent")
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_ = unix.Close(fds[0])
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// followSize sets the terminal's size as it changes, until the channel is closed or the func it returns is called.
func followSize(ctx context.Context, terminal *os.File, resize <-chan remotecommandserver.TerminalSize) func() {
	if resize == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case size, ok := <-resize:
				if !ok {
					return
				}
				setSize(terminal, size)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func setSize(terminal *os.File, size remotecommandserver.TerminalSize) {
	raw, err := terminal.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
	})
}
