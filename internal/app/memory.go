package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// settleAfter is how long after the node is Ready its start is over: by then the garbage collector has seen
// every kind.
const settleAfter = 8 * time.Second

// releaseMemory gives back, once, the memory that only the start needed: the heap's garbage, and the pages of the
// program itself. The kernel maps a large program two megabytes at a time, so that all of it counts as used
// when a part of each piece has run; what is still needed comes back by the page, from the page cache.
func (d *daemon) releaseMemory(ctx context.Context) error {
	t := d.clock.NewTimer(settleAfter)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C():
	}
	debug.FreeOSMemory()
	if err := dropProgramPages(); err != nil {
		klog.FromContext(ctx).Info("Could not give back the pages of the program that only the start needed", "err", err)
	}
	<-ctx.Done()
	return ctx.Err()
}

// dropProgramPages unmaps the pages of this program's file that nothing has written to.
func dropProgramPages() error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read this process' mappings: %w", err)
	}
	defer f.Close()
	areas, err := cleanAreas(f, program)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range areas {
		b := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), a.from)), a.to-a.from)
		// Without large pages the kernel brings back only what is near what is used. Kernels that have none
		// refuse the advice.
		if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, err)
		}
		errs = append(errs, unix.Madvise(b, unix.MADV_DONTNEED))
	}
	return errors.Join(errs...)
}

// area is a range of addresses.
type area struct{ from, to uintptr }

// cleanAreas reads a process' mappings, as /proc/PID/smaps has them, and returns those of a file that are
// not writable and hold no page of their own: dropping them loses nothing.
func cleanAreas(smaps io.Reader, file string) ([]area, error) {
	var areas []area
	var at area
	var ours bool
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 3 && f[0] == "Anonymous:":
			if ours && f[1] == "0" {
				areas = append(areas, at)
			}
		case len(f) >= 5 && !strings.HasSuffix(f[0], ":"):
			ours = len(f) == 6 && f[5] == file && strings.HasPrefix(f[1], "r-")
			if !ours {
				continue
			}
			from, to, _ := strings.Cut(f[0], "-")
			first, err := strconv.ParseUint(from, 16, 64)
			if err != nil {
				return nil, fmt.Errorf("read a mapping from %q: %w", lines.Text(), err)
			}
			last, err := strconv.ParseUint(to, 16, 64)
			if err != nil {
				return nil, fmt.Errorf("read a mapping from %q: %w", lines.Text(), err)
			}
			at = area{uintptr(first), uintptr(last)}
		}
	}
	return areas, lines.Err()
}
