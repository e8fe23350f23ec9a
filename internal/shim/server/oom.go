package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// oomWatch is told by the kernel when it runs out of memory for a container, and tells the daemons what was killed.
//
// On cgroup v2 the file memory.events becomes "exceptional" to poll(2) when a count in it changes (the kernel's
// cgroup-v2.rst): no inotify instance, of which a user has 128, is spent. On v1 an eventfd is registered for
// memory.oom_control (memory.rst), which is signalled before the kernel chooses what to kill, and also when the limit of
// a cgroup above is met. So in both the count of kills is what reports whether a process of this container was killed.
type oomWatch struct {
	dirs map[string]string
	file string   // the file whose oom_kill counts the kills
	wake *os.File // the eventfd, or that file; nil for none
	tell func(shim.Memory)
	told uint64
	over chan struct{} // closed when run is over
}

// afterNotice is how long after v1's notice the kill is looked for again, if the count does not have it yet.
var afterNotice = []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, 2 * time.Second}

// watchOOM begins to watch a container. When the kernel does not take that, it says why, and kills are
// told of at the container's end.
func (s *server) watchOOM(id string, dirs map[string]string) *oomWatch {
	w := &oomWatch{dirs: dirs, file: countOf(dirs), over: make(chan struct{})}
	w.tell = func(m shim.Memory) { s.send(shim.Event{Container: id, OOM: &m}) }
	if err := w.open(); err != nil {
		fmt.Fprintf(os.Stderr, "watch the memory of container %s: %v\n", id, err)
		if w.wake != nil {
			_ = w.wake.Close()
			w.wake = nil
		}
		return w
	}
	go w.run()
	return w
}

func (w *oomWatch) open() (err error) {
	dir, v2 := cgroupDir(w.dirs)
	if v2 {
		w.wake, err = openNonblocking(w.file)
		return err
	}
	control, err := os.Open(w.file)
	if err != nil {
		return err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	w.wake = os.NewFile(uintptr(fd), "eventfd")
	return os.WriteFile(filepath.Join(dir, "cgroup.event_control"), fmt.Appendf(nil, "%d %d", fd, control.Fd()), 0)
}

// openNonblocking opens a kernel's file so that Go's poller waits for it.
func openNonblocking(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// run tells of kills until wake is closed.
func (w *oomWatch) run() {
	defer close(w.over)
	raw, err := w.wake.SyscallConn()
	if err != nil {
		return
	}
	for late := len(afterNotice); ; {
		deadline := time.Time{}
		if late < len(afterNotice) {
			deadline = time.Now().Add(afterNotice[late])
		}
		_ = w.wake.SetReadDeadline(deadline)
		// A notice that comes between the look and the wait ends the wait.
		err := raw.Read(func(fd uintptr) bool {
			noticed := drain(fd)
			return !w.look() && noticed
		})
		switch {
		case err == nil:
			late = 0
		case errors.Is(err, os.ErrDeadlineExceeded):
			late++
		default:
			return
		}
	}
}

// drain takes the notices from an eventfd and reports whether there were any. Of memory.events, which gives more than the
// eight bytes of an eventfd, it says no: what is noticed there has happened.
func drain(fd uintptr) bool {
	var count [8]byte
	_, err := unix.Pread(int(fd), count[:], 0)
	if !errors.Is(err, unix.ESPIPE) {
		return false
	}
	n, err := unix.Read(int(fd), count[:])
	return n == len(count) && err == nil
}

// look tells of kills that were not told of, and whether there were any.
func (w *oomWatch) look() bool {
	kills := valueOf(w.file, "oom_kill ")
	if kills <= w.told {
		return false
	}
	w.told = kills
	w.tell(memoryOf(w.dirs, kills))
	return true
}

// stop ends the watch of a container that has ended, tells of what was not told of yet, and returns what there is
// to say of its memory: nil when no process of it was killed for that.
func (w *oomWatch) stop() *shim.Memory {
	if w.wake != nil {
		_ = w.wake.Close()
		<-w.over
	}
	w.look()
	if w.told == 0 {
		return nil
	}
	m := memoryOf(w.dirs, w.told)
	return &m
}

// countOf is the file that has the count of the processes of the cgroup that the kernel has killed for memory.
func countOf(dirs map[string]string) string {
	dir, v2 := cgroupDir(dirs)
	if v2 {
		return filepath.Join(dir, "memory.events")
	}
	return filepath.Join(dir, "memory.oom_control")
}

// memoryOf reads what the kernel says of the cgroup.
func memoryOf(dirs map[string]string, kills uint64) shim.Memory {
	m := shim.Memory{Kills: kills}
	dir, v2 := cgroupDir(dirs)
	if !v2 {
		m.Limit = valueOf(filepath.Join(dir, "memory.limit_in_bytes"), "")
		m.Above = leastAbove(dir, "memory.limit_in_bytes")
		m.Peak = valueOf(filepath.Join(dir, "memory.max_usage_in_bytes"), "")
		return m
	}
	m.Limit = valueOf(filepath.Join(dir, "memory.max"), "")
	m.Above = leastAbove(dir, "memory.max")
	m.Peak = valueOf(filepath.Join(dir, "memory.peak"), "") // since Linux 5.19
	return m
}

// leastAbove is the least limit of the cgroups above dir; 0 for none. The hierarchy ends where there is no such file.
func leastAbove(dir, file string) uint64 {
	least := uint64(0)
	for dir = filepath.Dir(dir); ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, file)
		if _, err := os.Stat(path); err != nil {
			return least
		}
		if limit := valueOf(path, ""); limit > 0 && (least == 0 || limit < least) {
			least = limit
		}
	}
}

// unlimited is below what v1 has for no limit, which is the most that fits a long in whole pages.
const unlimited = 1 << 62

// valueOf reads the number of the line that begins with key; 0 for no such file or line, for "max" and for no limit.
func valueOf(file, key string) uint64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
			if n, err := strconv.ParseUint(text, 10, 64); err == nil && n < unlimited {
				return n
			}
			return 0
		}
	}
	return 0
}
