// Package pidfd waits for the end of processes that are no children.
package pidfd

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Await waits until the process of a descriptor of pidfd_open(2) has ended, and reports whether it has within the time. A signal
// that this process takes meanwhile does not end the wait: poll(2) is never restarted by itself.
func Await(fd int, within time.Duration) (bool, error) {
	for end := time.Now().Add(within); ; {
		left := max(0, time.Until(end))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int((left+time.Millisecond-1)/time.Millisecond))
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}
