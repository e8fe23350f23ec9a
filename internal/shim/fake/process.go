package fake

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/shim"
)

func itoa(n int) string { return strconv.Itoa(n) }

// process runs a script in a goroutine.
type process struct {
	script  Script
	clock   clock.WithTicker
	signals chan unix.Signal
	done    chan struct{} // closed when it has ended
	drop    chan struct{} // closed when nobody is to hear of its end

	once sync.Once
	exit shim.Exit // once done is closed
}

func newProcess(s Script, c clock.WithTicker) *process {
	return &process{script: s, clock: c, signals: make(chan unix.Signal, 16), done: make(chan struct{}), drop: make(chan struct{})}
}

// run follows the script and then tells how it ended, unless it was abandoned.
func (p *process) run(stdin io.Reader, stdout, stderr io.Writer, ended func(shim.Exit)) {
	go func() {
		_, _ = io.WriteString(stdout, p.script.Output)
		_, _ = io.WriteString(stderr, p.script.Errors)
		exit := p.live(stdin, stdout)
		select {
		case <-p.drop:
			return
		default:
		}
		exit.At = p.clock.Now().UTC().Round(0)
		if exit.OOM = p.script.OOM; exit.OOM {
			exit.Memory = &shim.Memory{Kills: 1}
		}
		p.exit = exit
		ended(exit)
		close(p.done)
	}()
}

// live waits for the first of the script's end, stdin's end and a deadly signal.
func (p *process) live(stdin io.Reader, stdout io.Writer) shim.Exit {
	var over <-chan time.Time
	closed := make(chan struct{})
	switch {
	case p.script.Echo:
		go func() {
			_, _ = io.Copy(stdout, stdin)
			close(closed)
		}()
	case !p.script.Forever:
		over = p.clock.After(p.script.RunFor)
	}
	var dying <-chan time.Time
	for {
		select {
		case <-over:
			return shim.Exit{Code: p.script.ExitCode}
		case <-closed:
			if !p.script.Forever {
				return shim.Exit{Code: p.script.ExitCode}
			}
			closed = nil
		case <-dying:
			return shim.Exit{Code: 128 + int(unix.SIGTERM)}
		case sig := <-p.signals:
			switch {
			case sig == unix.SIGKILL:
				return shim.Exit{Code: 128 + int(sig), Signal: int(sig)}
			case sig == unix.SIGTERM && p.script.IgnoreTerm:
			case dying == nil:
				dying = p.clock.After(p.script.KillAfter)
			}
		case <-p.drop:
			return shim.Exit{}
		}
	}
}

func (p *process) signal(sig unix.Signal) {
	select {
	case p.signals <- sig:
	case <-p.done:
	}
}

// abandon ends it without a word.
func (p *process) abandon() { p.once.Do(func() { close(p.drop) }) }

// logFile is a container's log in CRI's format.
type logFile struct {
	mu   sync.Mutex
	path string
	f    *os.File
}

func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		_ = l.f.Close()
	}
	l.f = f
	return nil
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		_ = l.f.Close()
		l.f = nil
	}
}

// partSize is how much of a line is one entry.
const partSize = 16 << 10

// pump writes a stream into the log and to who is attached until it ends.
func (l *logFile) pump(from io.Reader, stream string, clk clock.PassiveClock, tee func([]byte)) {
	r := bufio.NewReaderSize(from, partSize)
	for {
		slice, err := r.ReadSlice('\n')
		if line := bytes.Clone(slice); len(line) > 0 {
			tag, text := "P", line
			if line[len(line)-1] == '\n' {
				tag, text = "F", line[:len(line)-1]
			} else if err == bufio.ErrBufferFull && next(r) == '\n' { // it ends just where the part does
				tag = "F"
				_, _ = r.Discard(1)
				line = append(line, '\n')
				text = line[:len(line)-1]
			}
			l.mu.Lock()
			if l.f != nil {
				_, _ = fmt.Fprintf(l.f, "%s %s %s %s\n", clk.Now().UTC().Format(time.RFC3339Nano), stream, tag, text)
			}
			l.mu.Unlock()
			tee(line)
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

func next(r *bufio.Reader) byte {
	b, err := r.Peek(1)
	if err != nil {
		return 0
	}
	return b[0]
}
