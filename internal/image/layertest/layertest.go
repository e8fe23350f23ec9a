// Package layertest makes tar archives that archive/tar does not write: sparse files, and other things that the author
// of an image may put into a layer.
package layertest

import (
	"bytes"
	"fmt"
	"os"
)

const block = 512

// Header returns a header of a ustar archive for a file of the caller's.
func Header(name string, kind byte, size int64) []byte {
	h := make([]byte, block)
	copy(h[0:100], name)
	copy(h[100:], "0000644\x00")
	copy(h[108:], fmt.Sprintf("%07o\x00", os.Getuid()))
	copy(h[116:], fmt.Sprintf("%07o\x00", os.Getgid()))
	number(h[124:136], size)
	copy(h[136:], "00000000000\x00")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	return Checksum(h)
}

// Checksum sets the checksum of a header.
func Checksum(h []byte) []byte {
	copy(h[148:156], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

// number writes a number as octal digits, or in base 256 where those do not suffice.
func number(field []byte, n int64) {
	if n < 1<<33 {
		copy(field, fmt.Sprintf("%011o\x00", n))
		return
	}
	for i := len(field) - 1; i > 0; i-- {
		field[i], n = byte(n), n>>8
	}
	field[0] = 0x80
}

// Padded returns data filled up to whole blocks.
func Padded(data []byte) []byte {
	return append(bytes.Clone(data), make([]byte, (block-len(data)%block)%block)...)
}

// PAX returns a header with records for the next entry.
func PAX(kind byte, records map[string]string) []byte {
	var body []byte
	for key, value := range records {
		length := len(key) + len(value) + 3
		for len(fmt.Sprintf("%d %s=%s\n", length, key, value)) != length {
			length++
		}
		body = fmt.Appendf(body, "%d %s=%s\n", length, key, value)
	}
	return append(Header("pax", kind, int64(len(body))), Padded(body)...)
}

// Sparse returns the entry of a sparse file of the given size (GNU format 1.0) that has data at its start.
func Sparse(name string, size int64, data []byte) []byte {
	var regions []byte
	if len(data) == 0 {
		regions = []byte("0\n")
	} else {
		regions = fmt.Appendf(nil, "1\n0\n%d\n", len(data))
	}
	body := append(Padded(regions), data...)
	out := PAX('x', map[string]string{
		"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name, "GNU.sparse.realsize": fmt.Sprint(size),
	})
	out = append(out, Header("sparse", '0', int64(len(body)))...)
	return append(out, Padded(body)...)
}

// OldSparse returns the entry of a sparse file in the old GNU format, with data at its start.
func OldSparse(name string, size int64, data []byte) []byte {
	h := Header(name, 'S', int64(len(data)))
	copy(h[257:], "ustar  \x00")
	clear(h[345:512])
	number(h[386:398], 0)
	number(h[398:410], int64(len(data)))
	number(h[410:422], size)
	number(h[422:434], 0)
	number(h[483:495], size)
	return append(Checksum(h), Padded(data)...)
}

// End is the end of an archive.
var End = make([]byte, 2*block)
