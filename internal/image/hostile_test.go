package image

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"podium.dev/podium/internal/image/build"
	"podium.dev/podium/internal/image/layertest"
	"podium.dev/podium/test/registry"
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
	b.Config = add(ocispec.MediaTypeImageConfig, asJSON(t, ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: b.Plain},
	}))
	b.Target = add(ocispec.MediaTypeImageManifest, asJSON(t, ocispec.Manifest{
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
	lowers, err := s.lowersOfLocked(t.Context(), imgs[0].ChainID)
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

// rejected loads or pulls an image that must be rejected, and leaves the store as it was.
func rejected(t *testing.T, s *Service, words string, take func() error) {
	t.Helper()
	before := contents(t, s)
	err := take()
	if err == nil || !strings.Contains(err.Error(), words) || Code(err) != codes.InvalidArgument {
		t.Errorf("error (%s): %v", Code(err), err)
	}
	unchanged(t, s, before)
}

// asJSON is a document as registries have it.
func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	check(t, err)
	return raw
}

// replaced returns the image with another configuration, or another manifest.
func replaced(t testing.TB, name string, config, manifest []byte) *build.Built {
	b := made(t, "text", name)
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: b.Config, Layers: b.Layers,
	}
	if config != nil {
		m.Config.Digest, m.Config.Size = digest.FromBytes(config), int64(len(config))
		b.Blobs[m.Config.Digest] = config
	}
	if manifest == nil {
		manifest = asJSON(t, m)
	}
	b.Target.Digest, b.Target.Size = digest.FromBytes(manifest), int64(len(manifest))
	b.Blobs[b.Target.Digest] = manifest
	return b
}

// Manifests and configurations are read into memory: they are bounded, whatever the descriptor says.
func TestHostileDocuments(t *testing.T) {
	s, r := open(t), registry.Start(t)
	large := append([]byte(`{"architecture":"amd64","os":"linux","author":"`), append(bytes.Repeat([]byte("x"), maxDocument), `"}`...)...)
	dense := append([]byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageManifest+`","layers":[`), append(bytes.Repeat([]byte("{},"), 1<<20), `{}]}`...)...)
	layers := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	plain := made(t, "text")
	layers.Config = plain.Config
	for range maxLayers + 1 {
		layers.Layers = append(layers.Layers, plain.Layers[0])
	}
	understated := replaced(t, "podium.local/a:1", large, nil)
	lie := bytes.Replace(understated.Blobs[understated.Target.Digest], fmt.Appendf(nil, `"size":%d`, len(large)), []byte(`"size":100`), 1)
	for name, tc := range map[string]struct {
		image *build.Built
		words string
	}{
		"a large configuration":       {replaced(t, "podium.local/a:1", large, nil), "8388608 are allowed"},
		"a manifest of empty layers":  {replaced(t, "podium.local/a:1", nil, dense), "elements; 65536 are allowed"},
		"more layers than are usable": {replaced(t, "podium.local/a:1", nil, asJSON(t, layers)), "501 layers; 500 are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			rejected(t, s, tc.words, func() error {
				_, err := s.Load(t.Context(), archiveFile(t, "a.tar", build.WriteOCI, tc.image))
				return err
			})
			rejected(t, s, tc.words, func() error {
				_, err := s.Pull(t.Context(), r.Put("app", "1", tc.image), nil, nil)
				return err
			})
		})
	}
	t.Run("a configuration that is said to be small", func(t *testing.T) {
		rejected(t, s, "8388608 are allowed", func() error {
			_, err := s.Load(t.Context(), archiveFile(t, "a.tar", build.WriteOCI, replaced(t, "podium.local/a:1", large, lie)))
			return err
		})
	})
}

// Indexes may lead to indexes, but not on and on.
func TestHostileIndexes(t *testing.T) {
	s, r := open(t), registry.Start(t)
	b := made(t, "text", "podium.local/a:1")
	for range maxDocuments {
		b.Target.Platform = nil
		raw := asJSON(t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{b.Target}})
		b.Target = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		b.Blobs[b.Target.Digest] = raw
	}
	rejected(t, s, "more than 32 manifests and indexes", func() error {
		_, err := s.Pull(t.Context(), r.Put("app", "1", b), nil, nil)
		return err
	})
}

// A blob that does not fit on the disk is rejected before it is fetched.
func TestHostileSizeOfABlob(t *testing.T) {
	s, r := open(t), registry.Start(t)
	plain := made(t, "text")
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: plain.Config, Layers: plain.Layers,
	}
	manifest.Layers[1].Size = 1 << 50
	b := replaced(t, "podium.local/a:1", nil, asJSON(t, manifest))
	before := contents(t, s)
	_, err := s.Pull(t.Context(), r.Put("app", "1", b), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("error: %v", err)
	}
	if n := len(r.Requests(plain.Layers[1].Digest.String())); n > 0 {
		t.Errorf("fetched %d times", n)
	}
	unchanged(t, s, before)
	// Also as a file of an archive.
	archive := bytes.Join([][]byte{layertest.Sparse("blobs/sha256/a", 1<<42, []byte("x")), layertest.End}, nil)
	path := filepath.Join(t.TempDir(), "a.tar")
	check(t, os.WriteFile(path, archive, 0o600))
	_, err = s.Load(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || errdefs.IsInvalidArgument(err) {
		t.Errorf("error: %v", err)
	}
	unchanged(t, s, before)
}

// An archive of links alone would fill the memory with their names.
func TestHostileArchiveOfLinks(t *testing.T) {
	s := open(t)
	path := filepath.Join(t.TempDir(), "a.tar.gz")
	f, err := os.Create(path)
	check(t, err)
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	check(t, err)
	one := layertest.Header("link", '2', 0)
	for range maxBesides/int64(len(one)) + 1 {
		_, err := z.Write(one)
		check(t, err)
	}
	check(t, z.Close())
	check(t, f.Close())
	rejected(t, s, "belong to none of its files", func() error {
		_, err := s.Load(t.Context(), path)
		return err
	})
}

// A registry's answers end, also where the library reads to the end: manifests without a length, and tokens.
func TestHostileAnswersOfARegistry(t *testing.T) {
	s := open(t)
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
				return
			}
		}
	}
	for name, reply := range map[string]http.HandlerFunc{
		"a manifest": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			if r.Method == http.MethodGet {
				endless(w, r)
			}
		},
		"a token": func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/token") {
				_, _ = w.Write([]byte(`{"token":"`))
				endless(w, r)
				return
			}
			w.Header().Set("Www-Authenticate", `Bearer realm="http://`+r.Host+`/token/blobs/",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(reply)
			defer server.Close()
			before := contents(t, s)
			_, err := s.Pull(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/app:1", nil, nil)
			if err == nil || !strings.Contains(err.Error(), "has more than 8388608 bytes") {
				t.Errorf("error: %v", err)
			}
			unchanged(t, s, before)
		})
	}
}

// The library would decode zstd with a window of its own choice.
func TestHostileContentEncoding(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Get("Accept-Encoding")
		w.Header().Set("Content-Encoding", "gzip, zstd")
	}))
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	check(t, err)
	request.Header.Set("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5")
	response, err := (&bounded{next: http.DefaultTransport}).RoundTrip(request)
	if err == nil {
		response.Body.Close()
		t.Error("no error")
	}
	if strings.Contains(asked, "zstd") {
		t.Errorf("asked for %s", asked)
	}
}
