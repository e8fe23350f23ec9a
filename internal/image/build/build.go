// Package build makes container images from files, with no container and no network: for the demo and for tests.
package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "crypto/sha256" // what digests are made with
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// File is a file, folder or symbolic link of a layer.
type File struct {
	// Name is the path in the image, with no slash before it.
	Name string
	// Mode has the permissions and the kind: a plain file, fs.ModeDir or fs.ModeSymlink.
	Mode fs.FileMode
	// Body is what a plain file holds.
	Body []byte
	// Link is where a symbolic link leads.
	Link     string
	UID, GID int
}

// Dir is a folder.
func Dir(name string, mode fs.FileMode) File { return File{Name: name, Mode: mode | fs.ModeDir} }

// Plain is a plain file.
func Plain(name string, mode fs.FileMode, body []byte) File {
	return File{Name: name, Mode: mode, Body: body}
}

// Symlink is a symbolic link.
func Symlink(name, to string) File { return File{Name: name, Mode: 0o777 | fs.ModeSymlink, Link: to} }

// Compression is how layers are compressed.
type Compression int

// The compressions that images have.
const (
	Gzip Compression = iota
	None
	Zstd
)

// Image says what an image is to be made of. The same says the same: what is built has the same digests.
type Image struct {
	// Names are full references with a tag, by which archives name the image.
	Names []string
	// Config is how it is run.
	Config ocispec.ImageConfig
	// Platform is what it is for; the zero Platform is this machine's.
	Platform ocispec.Platform
	// Layers are its layers, the lowest first.
	Layers [][]File
	// Compression is that of the layers.
	Compression Compression
}

// Built is an image as registries and archives have it.
type Built struct {
	Names    []string
	Platform ocispec.Platform
	// Target is the manifest, or the index of an image for several platforms.
	Target ocispec.Descriptor
	// Config and Layers are what the manifest lists.
	Config ocispec.Descriptor
	Layers []ocispec.Descriptor
	// Plain are the layers before compression.
	Plain []digest.Digest
	// Blobs are all parts by digest.
	Blobs map[digest.Digest][]byte
}

// stamp is the time of all files and images: a fixed one, so that the same files make the same image.
var stamp = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// Build makes the image.
func Build(i Image) (*Built, error) {
	b := &Built{Names: i.Names, Platform: i.Platform, Blobs: map[digest.Digest][]byte{}}
	if b.Platform.OS == "" {
		b.Platform = ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	}
	for n, files := range i.Layers {
		plain, err := layer(files)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", n, err)
		}
		raw, mediaType, err := compress(plain, i.Compression)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", n, err)
		}
		b.Plain = append(b.Plain, digest.FromBytes(plain))
		b.Layers = append(b.Layers, b.add(mediaType, raw))
	}
	config := ocispec.Image{
		Created: &stamp, Platform: b.Platform, Config: i.Config,
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: b.Plain},
	}
	for range i.Layers {
		config.History = append(config.History, ocispec.History{Created: &stamp, CreatedBy: "podium"})
	}
	var err error
	if b.Config, err = b.addJSON(ocispec.MediaTypeImageConfig, config); err != nil {
		return nil, err
	}
	b.Target, err = b.addJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: b.Config, Layers: b.Layers,
	})
	return b, err
}

// Index makes one image for several platforms out of images for one each. It has the first one's names.
func Index(images ...*Built) (*Built, error) {
	b := &Built{Names: images[0].Names, Blobs: map[digest.Digest][]byte{}}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, one := range images {
		d := one.Target
		d.Platform = &one.Platform
		index.Manifests = append(index.Manifests, d)
		for digest, blob := range one.Blobs {
			b.Blobs[digest] = blob
		}
	}
	var err error
	b.Target, err = b.addJSON(ocispec.MediaTypeImageIndex, index)
	return b, err
}

func (b *Built) add(mediaType string, raw []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	b.Blobs[d.Digest] = raw
	return d
}

func (b *Built) addJSON(mediaType string, v any) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode a %s: %w", mediaType, err)
	}
	return b.add(mediaType, raw), nil
}

// layer is the tar of a layer's files.
func layer(files []File) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: int64(f.Mode.Perm()), Uid: f.UID, Gid: f.GID, ModTime: stamp, Typeflag: tar.TypeReg, Size: int64(len(f.Body))}
		if f.Mode&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
		switch {
		case f.Mode.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(f.Name, "/")+"/"
		case f.Mode&fs.ModeSymlink != 0:
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if _, err := w.Write(f.Body); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// compress compresses a layer and names its media type.
func compress(plain []byte, c Compression) (raw []byte, mediaType string, err error) {
	var buf bytes.Buffer
	var w io.WriteCloser
	switch c {
	case None:
		return plain, ocispec.MediaTypeImageLayer, nil
	case Zstd:
		mediaType = ocispec.MediaTypeImageLayerZstd
		if w, err = zstd.NewWriter(&buf); err != nil {
			return nil, "", err
		}
	default:
		mediaType = ocispec.MediaTypeImageLayerGzip
		w = gzip.NewWriter(&buf)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, "", err
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	return buf.Bytes(), mediaType, nil
}
