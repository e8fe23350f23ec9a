package image

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/image/build"
	"podium.dev/podium/internal/image/layertest"
)

// ofArchives builds an image whose layers are the given tar archives.
func ofArchives(t testing.TB, name string, layers ...[]byte) *build.Built {
	t.Helper()
	b := &build.Built{Names: []string{name}, Blobs: map[digest.Digest][]byte{}}
	add := func(mediaType string, raw []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		b.Blobs[d.Digest] = raw
		return d
	}
	for _, l := range layers {
		b.Plain = append(b.Plain, digest.FromBytes(l))
		b.Layers = append(b.Layers, add(ocispec.MediaTypeImageLayer, l))
	}
	asJSON := func(v any) []byte {
		raw, err := json.Marshal(v)
		check(t, err)
		return raw
	}
	b.Config = add(ocispec.MediaTypeImageConfig, asJSON(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: b.Plain},
	}))
	b.Target = add(ocispec.MediaTypeImageManifest, asJSON(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: b.Config, Layers: b.Layers,
	}))
	return b
}

// onDisk returns what a directory takes on disk.
func onDisk(t testing.TB, dir string) int64 {
	t.Helper()
	var sum int64
	check(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		sum += st.Blocks * 512
		return nil
	}))
	return sum
}

// A sparse file stays sparse: what an image takes on disk is of the order of its archive.
func TestHostileSparseFile(t *testing.T) {
	s := open(t)
	layer := bytes.Join([][]byte{layertest.Sparse("sparse", 3<<30, noise(1<<20)), layertest.End}, nil)
	imgs, err := s.Load(t.Context(), archiveFile(t, "a.tar", build.WriteOCI, ofArchives(t, "podium.local/sparse:1", layer)))
	check(t, err)
	if used := onDisk(t, s.cfg.Paths.ImageStore); used > 4<<20 {
		t.Errorf("an image of 1 MB takes %d bytes", used)
	}
	lowers, err := s.lowersOf(t.Context(), imgs[0].ChainID)
	check(t, err)
	info, err := os.Stat(filepath.Join(lowers[0], "sparse"))
	check(t, err)
	if info.Size() != 3<<30 {
		t.Errorf("the file has %d bytes", info.Size())
	}
}

// A layer that says it unpacks to more than there is room for is rejected before anything is written.
func TestHostileSparseFileBeyondTheDisk(t *testing.T) {
	s := open(t)
	before := contents(t, s)
	layer := bytes.Join([][]byte{layertest.Sparse("sparse", 1<<42, []byte("x")), layertest.End}, nil)
	_, err := s.Load(t.Context(), archiveFile(t, "a.tar", build.WriteOCI, ofArchives(t, "podium.local/sparse:1", layer)))
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || errdefs.IsInvalidArgument(err) {
		t.Errorf("error: %v", err)
	}
	unchanged(t, s, before)
}
