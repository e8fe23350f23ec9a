package layer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// readAhead and chunk bound the decompressed data that waits for the unpacker: enough for both to work at the same time.
const (
	readAhead = 4
	chunk     = 256 << 10
)

// Decompress returns the content of a gzip or zstd stream, or of one that is neither, recognized by its first bytes. A
// zstd stream that needs a window of more than 128 MiB is an error.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	start, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b, 8}):
		return gzip.NewReader(buffered)
	case isZstd(start):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("read zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}

// isZstd reports whether a stream begins with a frame of zstd, or with one to skip (RFC 8878, 3.1).
func isZstd(start []byte) bool {
	if len(start) < 4 {
		return false
	}
	magic := binary.LittleEndian.Uint32(start)
	return magic == 0xfd2fb528 || magic&0xfffffff0 == 0x184d2a50
}

// stream reads, hashes and counts its source in the background, a few chunks ahead of its reader.
type stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	full   chan []byte // closed at the end, when err is set
	empty  chan []byte
	err    error

	current, rest []byte // the chunk that is being read, and the part of it that has not been

	hash hash.Hash
	size int64
}

// newStream reads src, of which more than most bytes are an error. The caller must call close.
func newStream(ctx context.Context, src io.Reader, most int64) *stream {
	s := &stream{full: make(chan []byte, readAhead), empty: make(chan []byte, readAhead), hash: sha256.New()}
	s.ctx, s.cancel = context.WithCancel(ctx)
	for range readAhead {
		s.empty <- make([]byte, chunk)
	}
	go s.fetch(src, most)
	return s
}

func (s *stream) fetch(src io.Reader, most int64) {
	defer close(s.full)
	for s.err == nil {
		var buf []byte
		select {
		case buf = <-s.empty:
		case <-s.ctx.Done():
			s.err = s.ctx.Err()
			return
		}
		n := 0
		for n < len(buf) && s.err == nil {
			var got int
			got, s.err = src.Read(buf[n:])
			n += got
		}
		s.size += int64(n)
		if s.size > most {
			s.err = invalid("the archive is longer than %d bytes, for which there is room", most)
			return
		}
		s.hash.Write(buf[:n])
		s.full <- buf[:n] // there is room for all chunks
	}
}

// Read implements io.Reader. After the end of ctx its error is ctx's.
func (s *stream) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	for len(s.rest) == 0 {
		if s.current != nil {
			s.empty <- s.current[:chunk]
			s.current = nil
		}
		select {
		case next, ok := <-s.full:
			if !ok {
				return 0, s.err
			}
			s.current, s.rest = next, next
		case <-s.ctx.Done():
			return 0, s.ctx.Err()
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// close ends the stream and waits until its source is no longer read.
func (s *stream) close() {
	s.cancel()
	for range s.full {
	}
}
