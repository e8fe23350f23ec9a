package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/image/layertest"
)

func TestCompressedLayersHaveTheDigestOfThePlainArchive(t *testing.T) {
	plain := append(archived(t, map[string]string{"a": "text"}, file("a")), "after the end of the archive"...)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := w.Write(plain)
	check(t, err)
	check(t, w.Close())
	z, err := zstd.NewWriter(nil)
	check(t, err)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0}, "xyz"...)
	for name, raw := range map[string][]byte{
		"plain": plain, "gzip": gz.Bytes(), "zstd": z.EncodeAll(plain, nil), "zstd after a frame to skip": z.EncodeAll(plain, skippable),
	} {
		root := t.TempDir()
		got, err := Apply(t.Context(), bytes.NewReader(raw), Options{Dir: root})
		if err != nil || got.Digest != digest.FromBytes(plain) || got.Size != int64(len(plain)) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if text, err := os.ReadFile(filepath.Join(root, "a")); string(text) != "text" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestAnEmptyStreamIsAnEmptyLayer(t *testing.T) {
	root, err := unpack(t, nil)
	if all := names(t, root); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestEntriesReplaceEachOther(t *testing.T) {
	body := map[string]string{"a": "file", "d/x": "x", "a/b": "b"}
	for name, tc := range map[string]struct {
		entries []tar.Header
		want    string
	}{
		"a file by a directory":           {[]tar.Header{file("a"), dir("a"), file("a/b")}, "a a/b"},
		"a directory by a file":           {[]tar.Header{dir("a"), file("a/b"), file("a")}, "a"},
		"a directory by a link":           {[]tar.Header{dir("d"), file("d/x"), dir("e"), link("d", "e"), file("d/x")}, "d e e/x"},
		"a link by a directory":           {[]tar.Header{dir("e"), link("d", "e"), file("d/x"), dir("d"), file("d/x")}, "d d/x e e/x"},
		"a link by a file, not its end":   {[]tar.Header{file("d/x"), link("a", "d/x"), file("a")}, "a d d/x"},
		"a file by a hard link":           {[]tar.Header{file("d/x"), file("a"), hard("a", "d/x")}, "a d d/x"},
		"a directory is merged":           {[]tar.Header{dir("d"), file("d/x"), dir("d")}, "d d/x"},
		"the root is left as it is":       {[]tar.Header{dir("."), {Name: "/", Typeflag: tar.TypeDir}, file("a")}, "a"},
		"directories that are implied":    {[]tar.Header{file("p/q/r/s")}, "p p/q p/q/r p/q/r/s"},
		"a directory behind a dead link":  {[]tar.Header{link("l", "p/q"), file("l/x")}, "l p p/q p/q/x"},
		"an absolute link, in the root":   {[]tar.Header{dir("p"), link("l", "/p"), file("l/x")}, "l p p/x"},
		"a link of a name that is reused": {[]tar.Header{dir("p"), link("l", "p"), file("l/x"), dir("q"), link("l", "q"), file("l/x")}, "l p p/x q q/x"},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := unpack(t, archived(t, body, tc.entries...))
			if got := strings.Join(names(t, root), " "); err != nil || got != tc.want {
				t.Errorf("%s, %v; want %s", got, err, tc.want)
			}
		})
	}
}

func TestTimesOfDirectoriesAreTheirOwn(t *testing.T) {
	then := func(n int64) time.Time { return time.Unix(1_000_000_000+n, 123456789) }
	d, e := dir("d"), dir("d/e")
	d.ModTime, e.ModTime = then(1), then(2)
	d.Format, e.Format = tar.FormatPAX, tar.FormatPAX
	root, err := unpack(t, archived(t, nil, d, e, file("d/e/f"), file("d/g")))
	check(t, err)
	for name, want := range map[string]time.Time{"d": then(1), "d/e": then(2)} {
		info, err := os.Stat(filepath.Join(root, name))
		check(t, err)
		if !info.ModTime().Equal(want) {
			t.Errorf("%s: %v; want %v", name, info.ModTime(), want)
		}
	}
}

func TestHolesStayHoles(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1024)
	zeroes := string(data) + strings.Repeat("\x00", 40<<20) + string(data) + "\x00"
	for name, raw := range map[string][]byte{
		"PAX":          bytes.Join([][]byte{layertest.Sparse("a", 1<<30, data), layertest.End}, nil),
		"old GNU":      bytes.Join([][]byte{layertest.OldSparse("a", 1<<30, data), layertest.End}, nil),
		"all a hole":   bytes.Join([][]byte{layertest.Sparse("a", 1<<30, nil), layertest.End}, nil),
		"plain zeroes": archived(t, map[string]string{"a": zeroes}, file("a")),
	} {
		t.Run(name, func(t *testing.T) {
			root, err := unpack(t, raw)
			check(t, err)
			if used := onDisk(t, root); used > 64<<10 {
				t.Errorf("takes %d bytes on disk", used)
			}
			info, err := os.Stat(filepath.Join(root, "a"))
			check(t, err)
			f, err := os.Open(filepath.Join(root, "a"))
			check(t, err)
			defer f.Close()
			switch name {
			case "plain zeroes":
				got, err := io.ReadAll(f)
				if err != nil || string(got) != zeroes {
					t.Errorf("holds other data: %d bytes, %v", len(got), err)
				}
			default:
				start := make([]byte, len(data))
				_, err := io.ReadFull(f, start)
				if info.Size() != 1<<30 || err != nil || name != "all a hole" && !bytes.Equal(start, data) {
					t.Errorf("holds other data: %d bytes, %v", info.Size(), err)
				}
			}
		})
	}
}

// A whiteout affects the layers below, and no entry of its own layer.
func TestWhiteoutsHideLowerLayersOnly(t *testing.T) {
	needRoot(t)
	lower, err := unpack(t, archived(t, nil, file("d/x"), file("f"), file("gone")))
	check(t, err)
	upper, err := unpack(t, archived(t, nil,
		file(".wh.gone"),
		file("f"), file(".wh.f"), // f is of this layer
		file(".wh.d"), file("d/y"), // so is d, but not its other entries
		file("e/.wh..wh..opq"), file("e/z"),
	), lower)
	check(t, err)
	kinds := map[string]kind{"gone": isWhiteout, "f": isFile, "d": isDirectory, "e": isDirectory}
	for name, want := range kinds {
		if got, err := kindAt(upper, name); got != want || err != nil {
			t.Errorf("%s is of kind %d, %v; want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"d", "e"} {
		value := make([]byte, 8)
		n, err := unix.Getxattr(filepath.Join(upper, name), "trusted.overlay.opaque", value)
		if err != nil || string(value[:n]) != "y" {
			t.Errorf("%s is not opaque: %v", name, err)
		}
	}
	lowest, err := unpack(t, archived(t, nil, file("a"), file(".wh.a"), file("d/.wh.b"), file("d/.wh..wh..opq")))
	if got := strings.Join(names(t, lowest), " "); err != nil || got != "a d" {
		t.Errorf("the lowest layer has %s, %v", got, err)
	}
}

func kindAt(root, name string) (kind, error) {
	fd, err := openDir(root)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return kindOf(directory{fd: fd}, name)
}

// A directory that a layer only passes through keeps the attributes that it has below.
func TestImpliedDirectoriesKeepTheAttributesOfLowerLayers(t *testing.T) {
	needRoot(t)
	d := dir("d")
	d.Mode, d.Uid, d.Gid, d.PAXRecords = 0o3711, 12, 34, map[string]string{"SCHILY.xattr.user.a": "b"}
	lower, err := unpack(t, archived(t, nil, d, file("d/x"), file("e")))
	check(t, err)
	upper, err := unpack(t, archived(t, nil, file("d/y"), file("e/f")), lower)
	check(t, err)
	var got, want unix.Stat_t
	check(t, unix.Stat(filepath.Join(upper, "d"), &got))
	check(t, unix.Stat(filepath.Join(lower, "d"), &want))
	if got.Mode != want.Mode || got.Uid != 12 || got.Gid != 34 || got.Mtim != want.Mtim {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if v, err := xattrsOf(filepath.Join(upper, "d")); v["user.a"] != "b" {
		t.Errorf("attributes %v, %v", v, err)
	}
	check(t, unix.Stat(filepath.Join(upper, "e"), &got))
	if got.Mode != unix.S_IFDIR|0o755 {
		t.Errorf("a directory in the place of a file has mode %o", got.Mode)
	}
}

func TestACancelledContextEndsUnpacking(t *testing.T) {
	raw := bytes.Join([][]byte{layertest.Sparse("a", 1<<39, []byte("x")), layertest.End}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := apply(ctx, bytes.NewReader(raw), Options{Dir: t.TempDir()}, standard, roomOf(t, endless))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	// Also while the archive does not come.
	reader, writer := io.Pipe()
	defer writer.Close()
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { cancel(); writer.CloseWithError(io.ErrClosedPipe) })
	if _, err := Apply(ctx, reader, Options{Dir: t.TempDir()}); err == nil {
		t.Error("no error")
	}
}

func TestACutArchiveIsAnError(t *testing.T) {
	raw := archived(t, map[string]string{"a": strings.Repeat("x", 3000)}, file("a"))
	for _, n := range []int{100, 600, 2000} {
		if _, err := unpack(t, raw[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestSenselessEntriesAreRejected(t *testing.T) {
	for name, tc := range map[string]struct {
		entries []tar.Header
		words   string
	}{
		"a whiteout of nothing":        {[]tar.Header{file(".wh.")}, "whiteout"},
		"a whiteout of its directory":  {[]tar.Header{file("a/.wh..")}, "whiteout"},
		"a whiteout of the parent":     {[]tar.Header{file("a/.wh...")}, "whiteout"},
		"a directory that is a file":   {[]tar.Header{file("a"), file("a/b")}, "not a directory"},
		"a hard link to nothing":       {[]tar.Header{hard("a", "b")}, "does not have"},
		"a hard link to a directory":   {[]tar.Header{dir("b"), hard("a", "b")}, "directory"},
		"a hard link to itself":        {[]tar.Header{file("a"), hard("a", "a")}, "itself"},
		"links in a circle":            {[]tar.Header{link("a", "b"), link("b", "a"), file("a/x")}, "symbolic links"},
		"an owner that does not exist": {[]tar.Header{{Name: "a", Uid: 1<<32 - 1, Format: tar.FormatGNU}}, "owner"},
		"a device that does not exist": {[]tar.Header{{Name: "a", Typeflag: tar.TypeChar, Devmajor: 1 << 12}}, "device"},
		"an unknown type":              {[]tar.Header{{Name: "a", Typeflag: 'Z'}}, "unknown type"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unpack(t, archived(t, nil, tc.entries...))
			if err == nil || !strings.Contains(err.Error(), tc.words) || !errdefs.IsInvalidArgument(err) {
				t.Errorf("error: %v", err)
			}
		})
	}
}
