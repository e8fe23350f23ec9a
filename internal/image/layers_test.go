package image

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"

	"podium.dev/podium/internal/image/build"
)

// layerOf returns the archive of empty files; names that end in a slash are directories.
func layerOf(t testing.TB, names ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range names {
		h := &tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		check(t, w.WriteHeader(h))
	}
	check(t, w.Close())
	return buf.Bytes()
}

// The layers of an image, mounted on each other, are what its author meant.
func TestLayersHideWhatIsBelow(t *testing.T) {
	s := open(t)
	built := ofArchives(t, "podium.local/layers:1",
		layerOf(t, "keep", "gone", "both", "dir/", "dir/old", "opaque/", "opaque/old", "again/", "again/old", "file/", "file/old"),
		layerOf(t, ".wh.gone", "dir/.wh.old", "dir/new", "opaque/.wh..wh..opq", "opaque/new", ".wh.again", "again/new", ".wh.both", "both", "file"),
		layerOf(t, "dir/deep/new", "opaque/newer", "file/", "file/new"),
	)
	imgs, err := s.Load(t.Context(), archiveFile(t, "a.tar", build.WriteOCI, built))
	check(t, err)
	mounts, err := s.Rootfs(t.Context(), imgs[0], "c", false)
	check(t, err)
	var got []string
	check(t, mount.WithTempMount(t.Context(), mounts, func(root string) error {
		return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				got = append(got, strings.TrimPrefix(path, root+string(os.PathSeparator)))
			}
			return err
		})
	}))
	const want = "again/new both dir/deep/new dir/new file/new keep opaque/new opaque/newer"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}
