package logread

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"podium.dev/podium/internal/logfile"
)

const (
	// readBuffer is how much of a file is read at a time.
	readBuffer = 64 << 10
	// maxEntry is the longest entry that is read, in bytes; the runtime cuts lines at 16 KiB, others at what they are
	// configured with. A longer one is cut.
	maxEntry = 1 << 20
	// identity is how many of the first bytes tell a log file from all others: there is a time in them, to the
	// nanosecond.
	identity = 128
)

// chain is the files of a log, one after the other: those that were put aside, oldest first, and the one that is
// written. It is at one of them.
type chain struct {
	path string

	file  *os.File
	lines *bufio.Reader
	// name is that of a file that was opened after it was put aside; empty for one that was opened when it was written,
	// which is put aside by a name that is not known here.
	name string
	// older is the name of the newest of the files before this one; empty for none.
	older string
	// done reports that nothing more is written to the file: what was read after that is all.
	done bool
	// half is an entry of which the end has not been written, or not been read.
	half []byte
}

func (c *chain) close() {
	if c.file != nil {
		_ = c.file.Close()
	}
}

// openNewest opens the file that is written, before its last entries if tail is not nil; the newest of the others
// while there is none.
func (c *chain) openNewest(tail *int64) error {
	aside, err := logfile.Aside(c.path)
	if err != nil {
		return fmt.Errorf("list the files of the log: %w", err)
	}
	f, err := os.Open(c.path)
	name := ""
	if errors.Is(err, fs.ErrNotExist) && len(aside) > 0 { // it is being put aside
		name = last(aside)
		f, err = os.Open(name)
	}
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	if tail != nil {
		if err := seekTail(f, *tail); err != nil {
			_ = f.Close()
			return fmt.Errorf("find the last lines of the log: %w", err)
		}
	}
	c.use(f, f)
	c.name, c.older = name, last(aside)
	return nil
}

// use goes over to a file, with r for its content.
func (c *chain) use(f *os.File, r io.Reader) {
	c.close()
	c.file, c.done, c.half = f, false, nil
	c.lines = bufio.NewReaderSize(r, readBuffer)
}

func last(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[len(names)-1]
}

// entry returns the next entry, with its end; io.EOF when there is none yet. It is valid until the next call.
func (c *chain) entry() ([]byte, error) {
	for {
		part, err := c.lines.ReadSlice('\n')
		if err == nil && len(c.half) == 0 {
			return part, nil
		}
		if room := maxEntry - len(c.half); len(part) > room {
			part = part[:room]
		}
		c.half = append(c.half, part...)
		if err == nil {
			whole := c.half
			c.half = nil
			return whole, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// next goes over to the next file when there is one and all of this one was read, and reports whether there may be
// more to read now. It is called at the end of a file. A file is whole when another one is found in its place, so it
// is read to its end once more after that.
func (c *chain) next() (more bool, err error) {
	if !c.done {
		moved, err := c.moved()
		c.done = moved
		return moved, err
	}
	for {
		aside, err := logfile.Aside(c.path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		at, err := c.position(aside)
		if err != nil {
			return false, err
		}
		name := append(aside, c.path)[at+1]
		opened, err := c.open(name)
		if err != nil {
			return false, err
		}
		if opened {
			if c.name, c.older = name, ""; name == c.path {
				c.name, c.older = "", last(aside)
			}
			return true, nil
		}
		if at+1 == len(aside) {
			return false, nil // the log is being put aside: the new one is not there yet
		}
		// It was compressed or removed since; what is there now is another list.
	}
}

// moved reports whether another file is written now.
func (c *chain) moved() (bool, error) {
	now, err := os.Stat(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // moved away, or removed with the Pod; a new one may come
	}
	if err != nil {
		return false, err
	}
	this, err := c.file.Stat()
	return err == nil && !os.SameFile(now, this), err
}

// position returns the place of the file in the list of those that were put aside. Of one that is not there any more
// it is the place before the next newer one.
func (c *chain) position(aside []string) (int, error) {
	if c.name != "" {
		return upTo(aside, c.name) - 1, nil
	}
	this, err := c.file.Stat()
	if err != nil {
		return 0, err
	}
	first := make([]byte, identity)
	n, err := c.file.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	for at, name := range slices.Backward(aside) {
		if info, err := os.Stat(name); err == nil && os.SameFile(info, this) {
			return at, nil
		}
		if n > 0 && compressedBeginsWith(name, first[:n]) {
			return at, nil
		}
	}
	return upTo(aside, c.older) - 1, nil
}

// upTo returns how many of the names, which are sorted, are no newer than name.
func upTo(aside []string, name string) int {
	at, found := slices.BinarySearch(aside, name)
	if found {
		at++
	}
	return at
}

func compressedBeginsWith(name string, first []byte) bool {
	f, err := os.Open(name + logfile.Compressed)
	if err != nil {
		return false
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return false
	}
	got := make([]byte, len(first))
	_, err = io.ReadFull(z, got)
	return err == nil && bytes.Equal(got, first)
}

// open goes over to the file of a name, compressed or not, and reports whether it is there.
func (c *chain) open(name string) (bool, error) {
	f, err := os.Open(name)
	if err == nil {
		c.use(f, f)
		return true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if f, err = os.Open(name + logfile.Compressed); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		_ = f.Close()
		return false, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	c.use(f, z)
	c.done = true
	return true, nil
}

// seekTail goes to the beginning of the last entries of a file.
func seekTail(f *os.File, entries int64) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || entries <= 0 {
		return err
	}
	buffer := make([]byte, readBuffer)
	// The end of the last entry does not count.
	for at, ends := end, int64(-1); at > 0; {
		size := min(at, readBuffer)
		at -= size
		part := buffer[:size]
		if _, err := f.ReadAt(part, at); err != nil {
			return err
		}
		if ends < 0 {
			ends = 0
			part = bytes.TrimSuffix(part, []byte{'\n'})
		}
		for {
			i := bytes.LastIndexByte(part, '\n')
			if i < 0 {
				break
			}
			if ends++; ends == entries {
				_, err := f.Seek(at+int64(i)+1, io.SeekStart)
				return err
			}
			part = part[:i]
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
