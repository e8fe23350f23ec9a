package image

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What the manifests, indexes and configurations of an image may hold, which are in memory while they are read.
const (
	// maxDocument bounds the bytes of one. The distribution specification has registries accept manifests of 4 MiB.
	maxDocument = 8 << 20
	// maxElements bounds the elements of its lists and objects: two bytes of JSON may become a descriptor of 150.
	maxElements = 1 << 16
	// maxDocuments bounds how many of them one image has: an index, a manifest and a configuration, and whatever
	// indexes an index leads to.
	maxDocuments = 32
	// maxLayers bounds the layers of an image: OVL_MAX_STACK, the lower layers of a mount of overlayfs.
	maxLayers = 500
)

// documents is a content store of which only blobs that are documents can be read. It bounds the bytes that are there:
// an image's author also chooses the size in the descriptor.
type documents struct{ content.Store }

// ReaderAt implements content.Provider.
func (d documents) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	r, err := d.Store.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > maxDocument {
		return nil, tooLarge(desc, r.Size())
	}
	raw := make([]byte, r.Size())
	if n, err := r.ReadAt(raw, 0); n < len(raw) {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	if n := elements(raw); n > maxElements {
		return nil, invalid(fmt.Errorf("%s %s has %d elements; %d are allowed", desc.MediaType, desc.Digest, n, maxElements))
	}
	return document{bytes.NewReader(raw)}, nil
}

func tooLarge(desc ocispec.Descriptor, size int64) error {
	return invalid(fmt.Errorf("%s %s has %d bytes; %d are allowed", desc.MediaType, desc.Digest, size, maxDocument))
}

// document is a content.ReaderAt of bytes in memory.
type document struct{ *bytes.Reader }

// Close implements content.ReaderAt.
func (document) Close() error { return nil }

// elements counts the elements of all lists and objects of a JSON text, or a few more.
func elements(raw []byte) int {
	n, inText := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case !inText && (c == ',' || c == '[' || c == '{'):
			n++
		}
	}
	return n
}

// isDocument reports whether a blob is read into memory.
func isDocument(mediaType string) bool {
	return images.IsManifestType(mediaType) || images.IsIndexType(mediaType) || images.IsKnownConfig(mediaType)
}

// boundDocuments returns a handler that rejects an image with too large or too many documents before they are fetched.
func boundDocuments() images.HandlerFunc {
	var seen atomic.Int32
	return func(_ context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if !isDocument(d.MediaType) {
			return nil, nil
		}
		if d.Size > maxDocument {
			return nil, tooLarge(d, d.Size)
		}
		if seen.Add(1) > maxDocuments {
			return nil, invalid(fmt.Errorf("the image has more than %d manifests and indexes", maxDocuments))
		}
		return nil, nil
	}
}

// boundLayers returns the handler f without the manifests that have too many layers.
func boundLayers(f images.HandlerFunc) images.HandlerFunc {
	return func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := f(ctx, d)
		if err == nil && images.IsManifestType(d.MediaType) && len(children) > maxLayers+1 {
			err = invalid(fmt.Errorf("the image has %d layers; %d are allowed", len(children)-1, maxLayers))
		}
		return children, err
	}
}
