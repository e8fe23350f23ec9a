package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// block is the unit of holes: that of the usual file systems. A block of zeros is not written.
const block = 4 << 10

var zeros [block]byte

// file makes a regular file of the given size.
func (a *applier) file(dir directory, base string, size int64, data io.Reader) error {
	fd := -1
	err := a.tree.place(dir, base, nil, func() (err error) {
		fd, err = unix.Openat(dir.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	err = a.write(fd, size, data)
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EFBIG) {
		return failed("write", dir, base, err)
	}
	return err
}

// write copies data into a new file, of which blocks of zeros become holes.
func (a *applier) write(fd int, size int64, data io.Reader) error {
	var end int64 // of what is written
	for offset := int64(0); offset < size; {
		// A hole is read as zeros without a read of the stream, which would notice this.
		if err := a.ctx.Err(); err != nil {
			return err
		}
		p := a.buf[:min(size-offset, int64(len(a.buf)))]
		if n, err := io.ReadFull(data, p); err != nil {
			return fmt.Errorf("the archive ends after %d of %d bytes: %w", offset+int64(n), size, err)
		}
		written, err := a.writeBlocks(fd, p, offset)
		if err != nil {
			return err
		}
		end = max(end, written)
		offset += int64(len(p))
	}
	if end < size {
		return unix.Ftruncate(fd, size)
	}
	return nil
}

// writeBlocks writes the blocks of p that are not zeros, and returns where the last of them ends.
func (a *applier) writeBlocks(fd int, p []byte, offset int64) (end int64, err error) {
	for len(p) > 0 {
		n := leading(p, false)
		if n > 0 {
			if err := writeAt(fd, p[:n], offset); err != nil {
				return 0, err
			}
			if err := a.room.Wrote(int64(n)); err != nil {
				return 0, err
			}
			end = offset + int64(n)
		}
		n += leading(p[n:], true)
		p, offset = p[n:], offset+int64(n)
	}
	return end, nil
}

// leading returns the length of the blocks at the start of p that are all zeros, or of those that are not.
func leading(p []byte, zero bool) int {
	n := 0
	for n < len(p) {
		b := p[n:min(n+block, len(p))]
		if bytes.Equal(b, zeros[:len(b)]) != zero {
			break
		}
		n += len(b)
	}
	return n
}

func writeAt(fd int, p []byte, offset int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, offset)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}
