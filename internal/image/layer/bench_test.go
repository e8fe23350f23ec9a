package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// large returns a layer like that of a distribution with a language's packages: 20 000 files of 200 MB in 2 000
// directories, which compress to about a third.
func large(b *testing.B) []byte {
	b.Helper()
	const files, size = 20_000, 200 << 20
	random := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 4096)
	for i := range words {
		words[i] = make([]byte, 4+random.IntN(12))
		for j := range words[i] {
			words[i][j] = byte(' ' + random.IntN(95))
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	h := tar.Header{Mode: 0o755, Typeflag: tar.TypeDir, ModTime: time.Unix(1_600_000_000, 0)}
	body := make([]byte, 0, 1<<20)
	for i := range files {
		dir := fmt.Sprintf("usr/lib/p%02d/q%d", i/1000, i/10)
		if i%10 == 0 {
			h.Typeflag, h.Name, h.Size = tar.TypeDir, dir+"/", 0
			check(b, w.WriteHeader(&h))
		}
		n := int(float64(size/files) * random.ExpFloat64())
		for body = body[:0]; len(body) < n; {
			body = append(body, words[random.IntN(len(words))]...)
		}
		h.Typeflag, h.Name, h.Size = tar.TypeReg, fmt.Sprintf("%s/file%d", dir, i), int64(len(body))
		check(b, w.WriteHeader(&h))
		_, err := w.Write(body)
		check(b, err)
	}
	check(b, w.Close())
	return buf.Bytes()
}

// processorTime returns what the process has used of the processors, which says more than the clock on a busy machine.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	check(b, unix.Getrusage(unix.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkUnpack compares with containerd's applier: decompression, digest and files, without a sync.
func BenchmarkUnpack(b *testing.B) {
	plain := large(b)
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	_, err := z.Write(plain)
	check(b, err)
	check(b, z.Close())
	enc, err := zstd.NewWriter(nil)
	check(b, err)
	ours := func(raw []byte, root string) error {
		_, err := Apply(b.Context(), bytes.NewReader(raw), Options{Dir: root})
		return err
	}
	theirs := func(raw []byte, root string) error {
		r, err := compression.DecompressStream(bytes.NewReader(raw))
		if err != nil {
			return err
		}
		defer r.Close()
		hashed := io.TeeReader(r, sha256.New())
		if err := containerd(hashed, root, nil); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, hashed)
		return err
	}
	for name, raw := range map[string][]byte{"plain": plain, "gzip": gz.Bytes(), "zstd": enc.EncodeAll(plain, nil)} {
		for who, unpack := range map[string]func([]byte, string) error{"podium": ours, "containerd": theirs} {
			b.Run(name+"/"+who, func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				var spent time.Duration
				for b.Loop() {
					b.StopTimer()
					root := filepath.Join(b.TempDir(), "root")
					check(b, os.Mkdir(root, 0o755))
					start := processorTime(b)
					b.StartTimer()
					check(b, unpack(raw, root))
					b.StopTimer()
					spent += processorTime(b) - start
					check(b, os.RemoveAll(root))
					b.StartTimer()
				}
				b.ReportMetric(float64(spent.Milliseconds())/float64(b.N), "cpu-ms/op")
			})
		}
	}
}
