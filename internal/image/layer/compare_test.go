package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

func xattrsOf(path string) (map[string]string, error) {
	list := make([]byte, 4<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 }) {
		value := make([]byte, 4<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, err
		}
		out[name] = string(value[:n])
	}
	return out, nil
}

// recent is when the tests run: no time in an archive is as late.
var recent = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// describe returns all there is to know of a tree, a line for each file. Times that nobody set are left out.
func describe(t testing.TB, root string) string {
	t.Helper()
	var out strings.Builder
	first := map[uint64]string{}
	for _, name := range append([]string{"."}, names(t, root)...) {
		path := filepath.Join(root, name)
		var st unix.Stat_t
		check(t, unix.Lstat(path, &st))
		fmt.Fprintf(&out, "%s %o %d:%d %x", name, st.Mode, st.Uid, st.Gid, st.Rdev)
		if mtime := time.Unix(st.Mtim.Unix()); mtime.Before(recent) {
			fmt.Fprintf(&out, " %v", mtime.UTC())
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			body, err := os.ReadFile(path)
			check(t, err)
			fmt.Fprintf(&out, " %d %x", st.Size, sha256.Sum256(body))
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			check(t, err)
			fmt.Fprintf(&out, " -> %s", to)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if same, ok := first[st.Ino]; ok {
				fmt.Fprintf(&out, " = %s", same)
			} else {
				first[st.Ino] = name
			}
		}
		attributes, err := xattrsOf(path)
		check(t, err)
		fmt.Fprintf(&out, " %v\n", attributes)
	}
	return out.String()
}

// generator makes random layers. What containerd rejects or does otherwise by choice is left out: whiteouts of what the
// same layer has, directories that are replaced in their own layer, and directories behind dead links.
type generator struct {
	*rand.Rand
	layer int
	dirs  []string // with an entry in this layer, also through links
	files []string
	old   []string // files of lower layers, for whiteouts
	used  map[string]bool
	next  int
}

func (g *generator) pick(all ...string) string { return all[g.IntN(len(all))] }

func (g *generator) parent() string {
	if len(g.dirs) > 0 && g.IntN(3) > 0 {
		return g.pick(g.dirs...) + "/"
	}
	return g.pick("", "", "d0/", "d1/", "d1/d2/", "d0/d1/", "./", "/", "../", "d0/./", "d3/../d0/")
}

func (g *generator) unique(kind string) string {
	g.next++
	return fmt.Sprintf("%s%d_%d", kind, g.layer, g.next)
}

func (g *generator) header() tar.Header {
	h := tar.Header{
		Format: tar.FormatPAX, Mode: g.Int64N(0o10000), Uid: g.IntN(3) * g.IntN(1<<31), Gid: g.IntN(3) * g.IntN(70000),
		ModTime: time.Unix(g.Int64N(1_600_000_000), g.Int64N(1_000_000_000)),
	}
	switch g.IntN(12) {
	case 0:
		h.ModTime = time.Unix(-g.Int64N(1_000_000), 0)
	case 1:
		h.ModTime = time.Unix(1<<35, 5)
	case 2:
		h.AccessTime = h.ModTime.Add(time.Duration(g.Int64N(2e9)-1e9) * time.Microsecond)
	case 3:
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": g.pick("", "value", "with\nline"), "SCHILY.xattr.trusted.a": "x"}
	case 4:
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	}
	return h
}

func (g *generator) body() []byte {
	n := g.pick("0", "10", "5000", "100000")
	size := 0
	_, _ = fmt.Sscan(n, &size)
	out := make([]byte, size)
	for range g.IntN(4) {
		if size > 0 {
			at := g.IntN(size)
			copy(out[at:], bytes.Repeat([]byte{byte(g.IntN(256))}, g.IntN(20_000)))
		}
	}
	return out
}

// entry returns a random entry.
func (g *generator) entry() (tar.Header, []byte) {
	h := g.header()
	parent := g.parent()
	switch kind := g.IntN(20); {
	case kind < 5:
		h.Typeflag, h.Name = tar.TypeDir, parent+g.pick("d0", "d1", "d2", g.unique("d"))+g.pick("/", "")
		g.dirs = append(g.dirs, strings.TrimSuffix(h.Name, "/"))
	case kind < 11:
		// Names repeat, so that files replace files, links and nodes.
		h.Typeflag, h.Name = tar.TypeReg, parent+g.pick("f0", "f1", g.unique("f"), g.unique(strings.Repeat("long", 40)), "über")
		body := g.body()
		h.Size = int64(len(body))
		g.files = append(g.files, h.Name)
		return h, body
	case kind < 13:
		h.Typeflag, h.Name = tar.TypeSymlink, parent+g.unique("s")
		h.Linkname = g.pick("/d0", "/d0/d1", "../../../../../../../../d1", "/d1/d2", "/d1/../d0", ".", "f0")
		if h.Linkname != "f0" {
			g.dirs = append(g.dirs, h.Name)
		}
	case kind < 14 && len(g.files) > 0:
		h.Typeflag, h.Name, h.Linkname = tar.TypeLink, parent+g.unique("h"), g.pick(g.files...)
	case kind < 16:
		h.Typeflag, h.Name = []byte{tar.TypeFifo, tar.TypeChar, tar.TypeBlock}[g.IntN(3)], parent+g.pick("f0", g.unique("n"))
		h.Devmajor, h.Devminor = 1+g.Int64N(100), g.Int64N(1000)
	case kind < 18 && g.layer > 0 && len(g.old) > 0:
		name := g.pick(g.old...)
		if g.used[name] {
			return g.entry()
		}
		g.used[name] = true
		h.Typeflag, h.Name = tar.TypeReg, filepath.Join(filepath.Dir(name), ".wh."+filepath.Base(name))
		h.PAXRecords = nil
	case kind < 19 && len(g.dirs) > 0:
		h.Typeflag, h.Name = tar.TypeReg, g.pick(g.dirs...)+"/.wh..wh..opq"
	default:
		h.Typeflag, h.Name = tar.TypeReg, parent+g.unique("w")
		g.files = append(g.files, h.Name)
	}
	return h, nil
}

// archive returns a random layer on the given ones.
func (g *generator) archive(t testing.TB) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	g.dirs, g.used = nil, map[string]bool{}
	for _, name := range []string{"d0", "d0/d1", "d1", "d1/d2"} {
		h := g.header()
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		check(t, w.WriteHeader(&h))
	}
	for range 5 + g.IntN(40) {
		h, body := g.entry()
		check(t, w.WriteHeader(&h))
		_, err := w.Write(body)
		check(t, err)
	}
	check(t, w.Close())
	for _, name := range g.files {
		if strings.HasPrefix(filepath.Base(name), "w") {
			g.old = append(g.old, name)
		}
	}
	g.files = nil
	return buf.Bytes()
}

// containerd unpacks an archive with containerd's applier, as it does for a snapshot of overlayfs.
func containerd(raw io.Reader, root string, lowers []string) error {
	var opts []archive.ApplyOpt
	if len(lowers) > 0 {
		opts = append(opts, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(lowers))
	}
	_, err := archive.Apply(context.Background(), root, raw, opts...)
	return err
}

// Layers are unpacked as containerd unpacks them.
func TestUnpacksAsContainerdDoes(t *testing.T) {
	needRoot(t)
	check(t, log.SetLevel("error"))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	compared, rejected := 0, 0
	for range 80 {
		top := t.TempDir()
		var ours, theirs []string
		g := &generator{Rand: random}
		for g.layer = range 3 {
			raw := g.archive(t)
			mine, other := filepath.Join(top, fmt.Sprint("a", g.layer)), filepath.Join(top, fmt.Sprint("b", g.layer))
			check(t, os.Mkdir(mine, 0o755))
			check(t, os.Mkdir(other, 0o755))
			wantErr := containerd(bytes.NewReader(raw), other, theirs)
			_, err := Apply(t.Context(), bytes.NewReader(raw), Options{Dir: mine, Lowers: ours})
			if wantErr != nil {
				rejected++
				break
			}
			compared++
			if err != nil {
				t.Fatalf("layer %d: %v", g.layer, err)
			}
			if got, want := describe(t, mine), describe(t, other); !alike(got, want) {
				t.Fatalf("layer %d: %s", g.layer, difference(got, want))
			}
			ours, theirs = slices.Insert(ours, 0, mine), slices.Insert(theirs, 0, other)
		}
		check(t, os.RemoveAll(top))
	}
	t.Logf("%d layers compared, %d rejected by containerd", compared, rejected)
	if compared < 200 {
		t.Errorf("only %d layers compared, %d rejected by containerd", compared, rejected)
	}
}

func alike(got, want string) bool { return difference(got, want) == "" }

// difference returns the lines that differ. A directory may have a time where containerd leaves that of its last entry.
func difference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	var out strings.Builder
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x == y {
			continue
		}
		if f, g := strings.Fields(x), strings.Fields(y); len(f) > 2 && len(g) > 2 && strings.HasPrefix(f[1], "4") && len(f) == len(g)+4 {
			if strings.Join(slices.Delete(f, 4, 8), " ") == strings.Join(g, " ") {
				continue
			}
		}
		fmt.Fprintf(&out, "\n got %s\nwant %s", x, y)
	}
	return out.String()
}
