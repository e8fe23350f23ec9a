package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/image/layertest"
)

// A file that does not fit on the disk is rejected at its header, be it data or a hole.
func TestHostileSizeBeyondTheDisk(t *testing.T) {
	for name, raw := range map[string][]byte{
		"a hole of 4 TB":         layertest.Sparse("a", 1<<42, []byte("x")),
		"a hole of 4 TB, old":    layertest.OldSparse("a", 1<<42, []byte("x")),
		"data of 4 TB":           layertest.Header("a", '0', 1<<42),
		"a whiteout of 4 TB":     layertest.Header(".wh.a", '0', 1<<42),
		"many holes":             bytes.Repeat(layertest.Sparse("a", 1<<38, []byte("x")), 16),
		"a size of 63 bits":      layertest.Header("a", '0', 1<<63-1),
		"an entry for the root.": layertest.Header("..", '0', 1<<42),
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			little := func() (space, error) { return space{bytes: 64 << 20, nodes: -1}, nil }
			_, err := apply(t.Context(), bytes.NewReader(raw), Options{Dir: root}, standard, roomOf(t, little))
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "no space left on device") || errdefs.IsInvalidArgument(err) {
				t.Errorf("error: %v", err)
			}
			if all := names(t, root); len(all) > 0 {
				t.Errorf("made %v", all)
			}
			// Nor where the disk has any room at all.
			_, err = apply(t.Context(), bytes.NewReader(raw), Options{Dir: root}, limits{entries: 100, unpacked: 1 << 30}, roomOf(t, endless))
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("on an endless disk: %v", err)
			}
		})
	}
}

// Half a gigabyte of zeros, in a megabyte of gzip, takes nothing on disk.
func TestHostileZeros(t *testing.T) {
	const size = 512 << 20
	reader, writer := io.Pipe()
	go func() {
		z, _ := gzip.NewWriterLevel(writer, gzip.BestSpeed)
		_, _ = z.Write(layertest.Header("a", '0', size))
		for range size >> 20 {
			_, _ = z.Write(make([]byte, 1<<20))
		}
		_, _ = z.Write(layertest.End)
		_ = z.Close()
		_ = writer.Close()
	}()
	root := t.TempDir()
	_, err := Apply(t.Context(), reader, Options{Dir: root})
	check(t, err)
	if used := onDisk(t, root); used > 64<<10 {
		t.Errorf("takes %d bytes on disk", used)
	}
}

// filler is an archive of one file, followed by bytes without end.
func filler(size int64, fill byte) io.Reader {
	return io.MultiReader(bytes.NewReader(layertest.Header("a", '0', size)), same(fill))
}

type same byte

func (s same) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

// While a layer is written others may fill the disk: the reserve is left.
func TestHostileDiskThatFills(t *testing.T) {
	root := t.TempDir()
	looks := 0
	look := func() (space, error) {
		if looks++; looks > 2 {
			return space{bytes: 0, nodes: -1}, nil
		}
		return space{bytes: 1 << 30, nodes: -1}, nil
	}
	_, err := apply(t.Context(), filler(200<<20, 'x'), Options{Dir: root}, standard, roomOf(t, look))
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error: %v", err)
	}
	if used := onDisk(t, root); used > 2*checkBytes+2*chunk {
		t.Errorf("wrote %d bytes", used)
	}
}

// tiny is an archive of n empty files.
func tiny(n int) io.Reader {
	var buf bytes.Buffer
	for i := range n {
		buf.Write(layertest.Header(fmt.Sprintf("d%d/f%d", i%50, i), '0', 0))
	}
	buf.Write(layertest.End)
	return &buf
}

func TestHostileNumberOfEntries(t *testing.T) {
	root := t.TempDir()
	_, err := apply(t.Context(), tiny(20_000), Options{Dir: root}, limits{entries: 1000, unpacked: 1 << 30, directoryNames: 1 << 20}, roomOf(t, endless))
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "more than 1000 files") {
		t.Errorf("error: %v", err)
	}
	if n := len(names(t, root)); n > 1000 {
		t.Errorf("made %d files", n)
	}
	// Directories without an entry count too.
	deep := bytes.NewReader(archived(t, nil, file(strings.Repeat("a/", 1900)+"f"), file("b/"+strings.Repeat("a/", 1900)+"f")))
	_, err = apply(t.Context(), deep, Options{Dir: t.TempDir()}, limits{entries: 3000, unpacked: 1 << 30, directoryNames: 1 << 20}, roomOf(t, endless))
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "more than 3000 files") {
		t.Errorf("error: %v", err)
	}
}

func TestHostileNumberOfInodes(t *testing.T) {
	root := t.TempDir()
	looks := 0
	look := func() (space, error) {
		looks++
		return space{bytes: 1 << 40, nodes: int64(max(0, 2-looks))}, nil
	}
	_, err := apply(t.Context(), tiny(2*checkNodes), Options{Dir: root}, standard, roomOf(t, look))
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error: %v", err)
	}
	if n := len(names(t, root)); n > checkNodes {
		t.Errorf("made %d files", n)
	}
}

func TestHostileMemoryForDirectories(t *testing.T) {
	var all []tar.Header
	for i := range 100 {
		all = append(all, dir(fmt.Sprintf("%s%d", strings.Repeat("n", 100), i)))
	}
	_, err := apply(t.Context(), bytes.NewReader(archived(t, nil, all...)), Options{Dir: t.TempDir()},
		limits{entries: 1000, unpacked: 1 << 30, directoryNames: 10 << 10}, roomOf(t, endless))
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "names of the layer's directories") {
		t.Errorf("error: %v", err)
	}
}

// What follows the end of the archive is read for the digest, but not without end.
func TestHostileTailOfTheArchive(t *testing.T) {
	for _, raw := range []io.Reader{
		io.MultiReader(bytes.NewReader(layertest.End), same(0)),
		io.MultiReader(bytes.NewReader(archived(t, nil, file("a"))), same('x')),
	} {
		_, err := apply(t.Context(), raw, Options{Dir: t.TempDir()}, limits{entries: 1000, unpacked: 1 << 20}, roomOf(t, endless))
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "the archive is longer than") {
			t.Errorf("error: %v", err)
		}
	}
}

// Headers take memory before an entry is seen: archive/tar bounds them.
func TestHostileHeaders(t *testing.T) {
	for name, raw := range map[string]io.Reader{
		"a PAX header of 1 GB":    io.MultiReader(bytes.NewReader(layertest.Header("p", 'x', 1<<30)), same('x')),
		"a GNU name of 1 GB":      io.MultiReader(bytes.NewReader(layertest.Header("p", 'L', 1<<30)), same('x')),
		"headers and no entry":    repeated(layertest.PAX('x', map[string]string{"comment": strings.Repeat("x", 100<<10)})),
		"global headers, no end":  repeated(layertest.PAX('g', map[string]string{"comment": strings.Repeat("x", 100<<10)})),
		"a sparse map of nothing": bytes.NewReader(bytes.Join([][]byte{sparseMap("999999999999\n"), layertest.End}, nil)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := apply(t.Context(), raw, Options{Dir: t.TempDir()}, limits{entries: 1000, unpacked: 1 << 20}, roomOf(t, endless))
			if err == nil {
				t.Error("no error")
			}
		})
	}
}

func sparseMap(text string) []byte {
	out := layertest.PAX('x', map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": "100"})
	return append(append(out, layertest.Header("a", '0', int64(len(text)))...), layertest.Padded([]byte(text))...)
}

// repeated is a block without end.
func repeated(b []byte) io.Reader { return &loop{block: b} }

type loop struct {
	block []byte
	at    int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.block[l.at:])
	l.at = (l.at + n) % len(l.block)
	return n, nil
}

func TestHostileZstdWindow(t *testing.T) {
	plain := archived(t, nil, file("a"))
	for log, ok := range map[byte]bool{20: true, 27: true, 28: false, 31: false, 41: false} {
		// A frame with that window and one raw block (RFC 8878, 3.1.1).
		raw := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3}, byte(len(plain)<<3|1), byte(len(plain)>>5), byte(len(plain)>>13))
		raw = append(raw, plain...)
		_, err := unpack(t, raw)
		if (err == nil) != ok {
			t.Errorf("a window of 2^%d bytes: %v", log, err)
		}
	}
	// A frame in one segment, whose window is all of its content: 1 TB.
	raw := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0}, 1, 0, 0)
	if _, err := unpack(t, raw); err == nil {
		t.Error("a segment of 1 TB: no error")
	}
}

func TestHostileNames(t *testing.T) {
	long := strings.Repeat("n", 255)
	for name, tc := range map[string]struct {
		entries []tar.Header
		words   string
	}{
		"a component of 255 bytes":    {[]tar.Header{file(long)}, ""},
		"a component of 256 bytes":    {[]tar.Header{file(long + "n")}, "a part of its name has 256 bytes"},
		"a path of 100 000 bytes":     {[]tar.Header{file(strings.Repeat("d/", 50_000) + "f")}, "its name has 100001 bytes"},
		"a link of 4095 bytes":        {[]tar.Header{link("a", strings.Repeat("x", 4095))}, ""},
		"a link of 4096 bytes":        {[]tar.Header{link("a", strings.Repeat("x", 4096))}, "target of the link"},
		"a tree that is deep by name": {[]tar.Header{file(strings.Repeat("d/", 2040) + "f")}, ""},
		"a tree that is deep by links": {[]tar.Header{
			link("l", strings.Repeat("d/", 1500)), file("l/m/x"), link("k", "l/m"), file("k/" + strings.Repeat("d/", 1500) + "x"),
		}, "deeper than"},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := unpack(t, archived(t, nil, tc.entries...))
			if tc.words == "" && err != nil || tc.words != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.words)) {
				t.Errorf("error: %v", err)
			}
			// Whatever was made can be removed.
			check(t, os.RemoveAll(root))
		})
	}
}

func TestHostileAttributes(t *testing.T) {
	entry := func(records map[string]string) []byte {
		h := file("a")
		h.PAXRecords = records
		return archived(t, nil, h)
	}
	many := map[string]string{}
	for i := range 1000 {
		many[fmt.Sprintf("SCHILY.xattr.user.%s%d", strings.Repeat("n", 200), i)] = "x"
	}
	for name, records := range map[string]map[string]string{
		"a large value": {"SCHILY.xattr.user.a": strings.Repeat("x", 64<<10+1)},
		"a long name":   {"SCHILY.xattr.user." + strings.Repeat("x", 256): "x"},
	} {
		if _, err := unpack(t, entry(records)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := unpack(t, entry(many)); err == nil {
		t.Error("many: no error")
	}
	root, err := unpack(t, entry(map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y"}))
	check(t, err)
	if got, err := xattrsOf(filepath.Join(root, "a")); len(got) > 0 {
		t.Errorf("attributes of overlayfs are set: %v, %v", got, err)
	}
}

// Nothing outside the directory is touched, whatever leads there.
func TestHostileWaysOut(t *testing.T) {
	for name, tc := range map[string]func(outside string) []tar.Header{
		"dots": func(string) []tar.Header {
			return []tar.Header{file("../../outside/new"), file("a/../../../outside/new")}
		},
		"an absolute name": func(out string) []tar.Header { return []tar.Header{file(out + "/new"), file(out + "/secret")} },
		"an absolute link": func(out string) []tar.Header { return []tar.Header{link("l", out), file("l/new"), file("l/secret")} },
		"a relative link": func(string) []tar.Header {
			return []tar.Header{link("l", "../outside"), file("l/new"), file("l/secret")}
		},
		"links to links": func(string) []tar.Header {
			return []tar.Header{link("a", ".."), link("l", "a/a/outside"), file("l/new")}
		},
		"a link as the file":      func(out string) []tar.Header { return []tar.Header{link("l", out+"/secret"), file("l")} },
		"a link as the directory": func(out string) []tar.Header { return []tar.Header{link("l", out), dir("l"), file("l/new")} },
		"a directory, then a link": func(out string) []tar.Header {
			return []tar.Header{dir("l/m"), file("l/m/x"), link("l", out), dir("l/m"), file("l/new")}
		},
		"a whiteout behind a link": func(out string) []tar.Header {
			return []tar.Header{link("l", out), file("l/.wh.secret"), file("l/.wh..wh..opq")}
		},
		"times through a link":      func(out string) []tar.Header { return []tar.Header{dir("l"), link("l", out)} },
		"a link in /proc":           func(string) []tar.Header { return []tar.Header{link("l", "/proc/self/root"+"/tmp"), file("l/new")} },
		"modes through a link":      func(out string) []tar.Header { return []tar.Header{link("l", out+"/secret"), hard("m", "l")} },
		"a removal behind a link":   func(out string) []tar.Header { return []tar.Header{dir("d"), link("d/l", out), file("d")} },
		"a removal through a link":  func(out string) []tar.Header { return []tar.Header{link("l", out), dir("l/secret"), file("l/sub")} },
		"a parent that is a link":   func(out string) []tar.Header { return []tar.Header{link("l", out+"/sub"), file("l/deep/new")} },
		"a dead link that leads up": func(string) []tar.Header { return []tar.Header{link("l", "../../outside/no/such"), file("l/new")} },
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			outside, root := filepath.Join(top, "outside"), filepath.Join(top, "root")
			check(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o700))
			check(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
			check(t, os.Mkdir(root, 0o755))
			before := describe(t, outside)
			if err := unpackInto(t, root, archived(t, map[string]string{"l/secret": "changed"}, tc(outside)...), t.TempDir()); err != nil {
				t.Log(err)
			}
			if after := describe(t, outside); after != before {
				t.Errorf("outside is\n%s\nand was\n%s", after, before)
			}
		})
	}
}

func TestHostileHardLinksToTheOutside(t *testing.T) {
	for name, tc := range map[string]func(outside string) []tar.Header{
		"dots":             func(string) []tar.Header { return []tar.Header{hard("h", "../outside/secret")} },
		"an absolute name": func(out string) []tar.Header { return []tar.Header{hard("h", out+"/secret")} },
		"behind a link":    func(out string) []tar.Header { return []tar.Header{link("l", out), hard("h", "l/secret")} },
		"up a link":        func(string) []tar.Header { return []tar.Header{link("l", "../outside"), hard("h", "l/secret")} },
		"a lower layer's":  func(string) []tar.Header { return []tar.Header{hard("h", "below")} },
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			outside, root, lower := filepath.Join(top, "outside"), filepath.Join(top, "root"), filepath.Join(top, "lower")
			for _, d := range []string{outside, root, lower} {
				check(t, os.Mkdir(d, 0o755))
			}
			check(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
			check(t, os.WriteFile(filepath.Join(lower, "below"), nil, 0o600))
			err := unpackInto(t, root, archived(t, nil, tc(outside)...), lower)
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("error: %v", err)
			}
			if _, err := os.Lstat(filepath.Join(root, "h")); !os.IsNotExist(err) {
				t.Errorf("the link is there: %v", err)
			}
		})
	}
}
