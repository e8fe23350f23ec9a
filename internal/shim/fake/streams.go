package fake

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// duplicate copies a descriptor, as passing it to another process does.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var derr error
	if err := raw.Control(func(old uintptr) { fd, derr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if derr != nil {
		return nil, os.NewSyscallError("fcntl", derr)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func (c *conn) Attach(_ context.Context, req shim.AttachRequest, stdout, stderr *os.File) (shim.Attachment, error) {
	k, err := c.find(req.Container)
	if err != nil {
		return shim.Attachment{}, err
	}
	if !k.running() {
		return shim.Attachment{}, fmt.Errorf("container %s does not run", req.Container)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var end shim.AttachEnd
	for i, f := range []*os.File{stdout, stderr} {
		if f == nil || i == 1 && k.req.TTY {
			continue
		}
		copied, err := duplicate(f)
		if err != nil {
			return shim.Attachment{}, err
		}
		k.attached[i] = append(k.attached[i], copied)
		end.Before += k.written[i]
	}
	ch := make(chan shim.AttachEnd, 1)
	ch <- end // the fake never lets go of a client, so this is known now
	close(ch)
	if !req.Stdin || !k.req.Stdin || k.once {
		return shim.Attachment{End: ch}, nil
	}
	k.once = k.req.StdinOnce && !k.req.TTY
	stdin, err := k.openStdin()
	return shim.Attachment{Stdin: stdin, End: ch}, err
}

// openStdin makes a way to the script's stdin; for a terminal one whose size can be set.
func (k *container) openStdin() (*os.File, error) {
	var r, w *os.File
	var err error
	if k.req.TTY {
		if r, w, err = openTerminal(); err != nil {
			return nil, err
		}
	} else if r, w, err = os.Pipe(); err != nil {
		return nil, err
	}
	last := k.once
	go func() {
		_, _ = io.Copy(k.stdin, r)
		_ = r.Close()
		if last {
			_ = k.stdin.Close()
		}
	}()
	return w, nil
}

// openTerminal makes a terminal in raw mode: what is written to the master is read from the other end as it is.
func openTerminal() (*os.File, *os.File, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	var n int
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var ierr error
	if err := raw.Control(func(fd uintptr) {
		if ierr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ierr == nil {
			n, ierr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil || ierr != nil {
		_ = master.Close()
		return nil, nil, fmt.Errorf("open a terminal: %w", ierr)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		_ = master.Close()
		return nil, nil, err
	}
	if t, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err == nil {
		t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
		t.Iflag &^= unix.ICRNL
		_ = unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, t)
	}
	return slave, master, nil
}

// terminal echoes what is typed.
type terminal struct {
	io.Reader
	echo io.Writer
}

func (t terminal) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	if n > 0 {
		_, _ = t.echo.Write(bytes.ReplaceAll(b[:n], []byte("\n"), []byte("\r\n")))
	}
	return n, err
}

// crlf ends lines as a terminal does.
func crlf(w io.Writer, tty bool) io.Writer {
	if !tty {
		return w
	}
	return crlfWriter{w}
}

type crlfWriter struct{ io.Writer }

func (c crlfWriter) Write(b []byte) (int, error) {
	_, err := c.Writer.Write(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")))
	return len(b), err
}

// Exec runs a script with the files that a real process would get. With a terminal it sends one over the socket.
func (c *conn) Exec(_ context.Context, req shim.ExecRequest, files ...*os.File) (shim.ExecResult, error) {
	k, err := c.find(req.Container)
	if err != nil {
		return shim.ExecResult{}, err
	}
	if !k.running() {
		return shim.ExecResult{}, fmt.Errorf("container %s does not run", req.Container)
	}
	script := c.pod.launcher.script(req.Container, req.Args)
	if script.StartError != "" {
		return shim.ExecResult{}, &shim.StartError{Message: "OCI runtime exec failed: exec failed: unable to start container process: " + script.StartError}
	}
	std, err := execFiles(req.TTY, files)
	if err != nil {
		return shim.ExecResult{}, err
	}
	p := newProcess(script, c.pod.launcher.clock())
	k.mu.Lock()
	k.execs[req.ID] = p
	k.mu.Unlock()
	p.run(std[0], crlf(std[1], req.TTY), std[2], func(exit shim.Exit) {
		for _, f := range std {
			_ = f.Close()
		}
		k.mu.Lock()
		delete(k.execs, req.ID)
		k.mu.Unlock()
		c.pod.mu.Lock()
		defer c.pod.mu.Unlock()
		if !c.pod.gone {
			c.pod.sendLocked(shim.Event{Container: req.Container, Exec: req.ID, Exit: exit})
		}
	})
	return shim.ExecResult{PID: c.pod.launcher.pid()}, nil
}

// execFiles are the process's own copies of its standard streams.
func execFiles(tty bool, files []*os.File) ([3]*os.File, error) {
	var std [3]*os.File
	if tty {
		slave, master, err := openTerminal()
		if err != nil {
			return std, err
		}
		defer master.Close()
		if err := unix.Sendmsg(int(files[0].Fd()), []byte("terminal"), unix.UnixRights(int(master.Fd())), nil, 0); err != nil {
			return std, os.NewSyscallError("sendmsg", err)
		}
		return [3]*os.File{slave, slave, slave}, nil
	}
	for i := range std {
		f, err := duplicate(files[i])
		if err != nil {
			return std, err
		}
		std[i] = f
	}
	return std, nil
}
