package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// archived returns the archive of entries, of which those without an owner are the caller's. Bodies are by name.
func archived(t testing.TB, bodies map[string]string, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range entries {
		body := bodies[h.Name]
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(body))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.Uid == 0 && h.Gid == 0 {
			h.Uid, h.Gid = os.Getuid(), os.Getgid()
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1_000_000_000, 0)
		}
		check(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := io.WriteString(w, body)
			check(t, err)
		}
	}
	check(t, w.Close())
	return buf.Bytes()
}

func file(name string) tar.Header { return tar.Header{Name: name} }
func dir(name string) tar.Header  { return tar.Header{Name: name + "/", Typeflag: tar.TypeDir} }
func link(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
}
func hard(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
}

// unpack unpacks an archive into a new directory and fails the test if descriptors leak.
func unpack(t testing.TB, raw []byte, lowers ...string) (string, error) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	check(t, os.Mkdir(root, 0o755))
	return root, unpackInto(t, root, raw, lowers...)
}

func unpackInto(t testing.TB, root string, raw []byte, lowers ...string) error {
	t.Helper()
	before := descriptors(t)
	_, err := Apply(context.Background(), bytes.NewReader(raw), Options{Dir: root, Lowers: lowers})
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open; %d were before", after, before)
	}
	return err
}

func descriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(all)
}

// names returns the paths below a directory.
func names(t testing.TB, root string) []string {
	t.Helper()
	var out []string
	check(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, path); rel != "." {
			out = append(out, rel)
		}
		return err
	}))
	slices.Sort(out)
	return out
}

// onDisk returns what a directory takes on disk.
func onDisk(t testing.TB, root string) int64 {
	t.Helper()
	var sum int64
	for _, name := range names(t, root) {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(root, name), &st))
		sum += st.Blocks * 512
	}
	return sum
}

// endless is a disk that never fills.
func endless() (space, error) { return space{bytes: 1 << 60, nodes: -1}, nil }

// roomOf returns a Room of a disk that the test makes up.
func roomOf(t testing.TB, look func() (space, error)) *Room {
	t.Helper()
	r, err := newRoom("/made-up", look)
	check(t, err)
	return r
}
