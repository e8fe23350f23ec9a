package server

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// streams are the shim's ends of a container's standard streams, or its terminal, and where they lead: the log and
// those who are attached.
type streams struct {
	req      shim.RunRequest
	log      *logFile
	outputs  []*output // stdout and stderr, or the terminal
	finished sync.WaitGroup

	mu    sync.Mutex
	stdin *os.File // nil when it is not kept open, or not any more
}

// output is one stream that the container writes to.
type output struct {
	from *os.File
	line *lineWriter

	credit time.Duration // how long the pump may wait for attached clients; the pump's own

	mu       sync.Mutex
	attached []*client
	written  int64 // bytes so far
	over     bool  // there is no more
}

// childStreams are the container's ends.
type childStreams struct {
	std     [3]*os.File
	socket  *os.File // the container's end of the console's socket
	console *os.File // ours
}

func (c *childStreams) files() []*os.File {
	if c.socket != nil {
		return append(c.std[:], c.socket)
	}
	return c.std[:]
}

func (c *childStreams) close() {
	for _, f := range append(c.std[:], c.socket, c.console) {
		if f != nil {
			_ = f.Close()
		}
	}
}

// openStreams opens the log and makes the pipes, or the socket that the terminal will come over.
func openStreams(req shim.RunRequest, limits shim.LogLimits) (_ *streams, _ *childStreams, err error) {
	st, child := &streams{req: req}, &childStreams{}
	defer func() {
		if err != nil {
			child.close()
			st.close()
		}
	}()
	if st.log, err = openLog(req.LogPath, limits); err != nil {
		return nil, nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	child.std[0] = null
	if req.TTY {
		child.std[1], child.std[2] = null, null
		child.socket, child.console, err = socketPair()
		return st, child, err
	}
	for i := range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		child.std[i+1] = w
		st.addOutput(r, [...]string{"stdout", "stderr"}[i])
	}
	if req.Stdin {
		_ = null.Close()
		if child.std[0], st.stdin, err = os.Pipe(); err != nil {
			return nil, nil, err
		}
	}
	return st, child, nil
}

func socketPair() (a, b *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(pair[0]), "console"), os.NewFile(uintptr(pair[1]), "console"), nil
}

func (s *streams) addOutput(from *os.File, name string) {
	s.outputs = append(s.outputs, &output{from: from, credit: maxCredit, line: &lineWriter{log: s.log, stream: name}})
}

// receiveTerminal takes the master of the container's terminal, which libcontainer has sent.
func (s *streams) receiveTerminal(sock *os.File) error {
	oob := make([]byte, unix.CmsgSpace(4))
	name := make([]byte, 4096)
	_, n, _, _, err := unix.Recvmsg(int(sock.Fd()), name, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("recvmsg", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return errors.New("no terminal was sent")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return errors.New("no terminal was sent")
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return err
	}
	master := os.NewFile(uintptr(fds[0]), "terminal")
	s.addOutput(master, "stdout")
	s.stdin = master
	return nil
}

// pump moves each output in a goroutine of its own until the container's last process has closed it.
func (s *streams) pump() {
	for _, o := range s.outputs {
		s.finished.Add(1)
		go func() {
			defer s.finished.Done()
			o.pump()
		}()
	}
}

// drain waits until all output has been moved, but no longer than d, and closes what is left open.
func (s *streams) drain(d time.Duration) {
	all := make(chan struct{})
	go func() {
		s.finished.Wait()
		close(all)
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-all:
	case <-t.C:
		for _, o := range s.outputs {
			_ = o.from.SetReadDeadline(time.Now())
		}
		<-all
	}
	s.close()
}

func (s *streams) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin != nil {
		_ = s.stdin.Close()
		s.stdin = nil
	}
	for _, o := range s.outputs {
		_ = o.from.Close()
		o.finish()
	}
	if s.log != nil {
		s.log.close()
	}
}

// chunk is how much is read at a time.
const chunk = 32 << 10

// chunks are buffers that are not in use. A stream that waits for output has none.
var chunks = make(chan []byte, 4)

func takeChunk() []byte {
	select {
	case b := <-chunks:
		return b
	default:
		return make([]byte, chunk)
	}
}

func giveChunk(b []byte) {
	select {
	case chunks <- b:
	default:
	}
}

// pump reads until the end and hands on what it reads.
func (o *output) pump() {
	raw, err := o.from.SyscallConn()
	if err != nil {
		return
	}
	for {
		var buf []byte
		var n int
		rerr := raw.Read(func(fd uintptr) bool {
			buf = takeChunk()
			n, err = syscall.Read(int(fd), buf)
			if errors.Is(err, syscall.EAGAIN) {
				giveChunk(buf)
				return false
			}
			return true
		})
		if rerr != nil {
			break
		}
		if n > 0 {
			o.line.write(buf[:n], time.Now())
			o.tee(buf[:n])
		}
		giveChunk(buf)
		if n <= 0 && !errors.Is(err, syscall.EINTR) {
			break // closed; a terminal says EIO
		}
	}
	o.line.finish(time.Now())
	o.finish()
}
