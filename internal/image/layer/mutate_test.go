package layer

import (
	"archive/tar"
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"podium.dev/podium/internal/image/layertest"
)

// Whatever the headers of an archive hold, nothing outside the directory changes, no descriptor stays open, and what
// was made can be removed.
func TestHostileMutations(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	seeds := [][]byte{
		archived(t, map[string]string{"a": "text"}, dir("d"), file("a"), link("l", "../../outside"), file("l/x"), hard("h", "a"), file(".wh.b"), file("d/.wh..wh..opq")),
		archived(t, nil, tar.Header{Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}, link("l", "/d/e"), file("l/x"), dir("l"), file("l/y")),
		bytes.Join([][]byte{layertest.Sparse("a", 1<<20, []byte("x")), layertest.OldSparse("b", 1<<20, []byte("x")), layertest.End}, nil),
	}
	top := t.TempDir()
	outside, lower := filepath.Join(top, "outside"), filepath.Join(top, "lower")
	check(t, os.Mkdir(outside, 0o755))
	check(t, os.Mkdir(lower, 0o755))
	check(t, os.WriteFile(filepath.Join(outside, "x"), []byte("outside"), 0o600))
	before, open := describe(t, outside), descriptors(t)
	bounds := limits{entries: 1000, unpacked: 16 << 20, directoryNames: 1 << 20}
	unpacked := 0
	for range 1000 {
		raw := mutated(random, seeds[random.IntN(len(seeds))])
		root := filepath.Join(top, "root")
		check(t, os.Mkdir(root, 0o755))
		if _, err := apply(t.Context(), bytes.NewReader(raw), Options{Dir: root, Lowers: []string{lower}}, bounds, roomOf(t, endless)); err == nil {
			unpacked++
		}
		check(t, os.RemoveAll(root))
		if now := descriptors(t); now != open {
			t.Fatalf("%d descriptors are open; %d were before; archive %q", now, open, raw)
		}
		if after := describe(t, outside); after != before {
			t.Fatalf("outside is\n%s\nand was\n%s\narchive %q", after, before, raw)
		}
	}
	t.Logf("%d unpacked without an error", unpacked)
}

// mutated changes bytes of some headers, and keeps their checksums right.
func mutated(random *rand.Rand, seed []byte) []byte {
	raw := bytes.Clone(seed)
	for range 1 + random.IntN(4) {
		header := raw[random.IntN(len(raw)/512)*512:][:512]
		if !bytes.HasPrefix(header[257:], []byte("ustar")) {
			continue
		}
		// A field in which a change leads somewhere: name, mode, owner, size, type, target of a link, prefix.
		at := []int{0, 1, 100, 108, 124, 134, 156, 157, 158, 345, 390, 420, 482, 483}[random.IntN(14)]
		header[at] = "\x00\x01./0127LSKgx\x80\xff"[random.IntN(15)]
		layertest.Checksum(header)
	}
	return raw
}
