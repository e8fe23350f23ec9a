package server

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// reaper collects every child's end, those of orphans that the shim inherits included, and tells who waits for it.
//
// A container's process is made by another and becomes the shim's child only when that one ends, so it may be dead
// before the shim has heard of it: while such a call is under way (Begin … the returned func), ends that nobody waits
// for are kept.
type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan<- shim.Exit
	pending int
	early   map[int]shim.Exit
}

func newReaper() *reaper {
	r := &reaper{waiting: map[int]chan<- shim.Exit{}, early: map[int]shim.Exit{}}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			r.reap()
		}
	}()
	return r
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if pid <= 0 || err != nil {
			return
		}
		exit := shim.Exit{Code: ws.ExitStatus(), At: time.Now().UTC()}
		if ws.Signaled() {
			exit.Signal = int(ws.Signal())
			exit.Code = 128 + exit.Signal
		}
		if ch, ok := r.waiting[pid]; ok {
			delete(r.waiting, pid)
			ch <- exit
		} else if r.pending > 0 {
			r.early[pid] = exit
		}
	}
}

// begin keeps the ends of processes that nobody waits for yet; the func it returns stops that.
func (r *reaper) begin() func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.pending--; r.pending == 0 {
			clear(r.early)
		}
	}
}

// fork starts a process and returns its ID and the channel that its end will come on.
func (r *reaper) fork(argv0 string, argv []string, attr *syscall.ProcAttr) (int, <-chan shim.Exit, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(argv0, argv, attr)
	if err != nil {
		return 0, nil, &os.PathError{Op: "start", Path: argv0, Err: err}
	}
	ch := make(chan shim.Exit, 1)
	r.waiting[pid] = ch
	return pid, ch, nil
}

// watch returns the channel that the end of a child will come on, or has. It may be called between begin and its
// end only.
func (r *reaper) watch(pid int) <-chan shim.Exit {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := make(chan shim.Exit, 1)
	if exit, ok := r.early[pid]; ok {
		delete(r.early, pid)
		ch <- exit
		return ch
	}
	r.waiting[pid] = ch
	return ch
}
