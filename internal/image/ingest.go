package image

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"podium.dev/podium/internal/image/layer"
)

const (
	// maxParts bounds the files of an archive of images; each becomes a blob.
	maxParts = 1 << 16
	// maxBesides bounds the bytes of an archive that are in no blob: headers, folders and links, which are in memory
	// until its end.
	maxBesides = 64 << 20
)

// roomy is a content store that writes only what there is room for on the disk that dir is on.
type roomy struct {
	content.Store
	dir string
}

// Writer implements content.Ingester. Its error wraps ENOSPC for a blob that is larger than what is free.
func (r roomy) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	room, err := layer.NewRoom(r.dir)
	if err != nil {
		return nil, err
	}
	w, err := r.Store.Writer(ctx, opts...)
	if err != nil {
		return nil, err
	}
	status, err := w.Status()
	if err == nil {
		err = room.Claim(max(0, o.Desc.Size-status.Offset))
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return &roomyWriter{Writer: w, room: room}, nil
}

// roomyWriter is a content.Writer that leaves the disk's reserve free.
type roomyWriter struct {
	content.Writer
	room *layer.Room
}

// Write implements io.Writer.
func (w *roomyWriter) Write(p []byte) (int, error) {
	if err := w.room.Wrote(int64(len(p))); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

// intake is a content store for the parts of an archive, whose unfinished blobs have names with a prefix.
type intake struct {
	content.Store
	prefix string
	parts  int
	// besides is how many more bytes were read than written.
	besides atomic.Int64
}

// Writer implements content.Ingester.
func (i *intake) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	if i.parts++; i.parts > maxParts {
		return nil, invalid(fmt.Errorf("the archive has more than %d files", maxParts))
	}
	w, err := i.Store.Writer(ctx, append(opts, func(o *content.WriterOpts) error {
		o.Ref = i.prefix + o.Ref
		return nil
	})...)
	if err != nil {
		return nil, err
	}
	return &intakeWriter{Writer: w, in: i}, nil
}

// ReaderAt implements content.Provider. What is not a document has no media type yet: the type of layers is found out
// by reading their first bytes.
func (i *intake) ReaderAt(ctx context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	if d.MediaType == "" {
		return i.Store.ReaderAt(ctx, d)
	}
	return documents{i.Store}.ReaderAt(ctx, d)
}

// reader returns the archive r, of which not much may be in none of the parts.
func (i *intake) reader(r io.Reader) io.Reader { return &intakeReader{from: r, in: i} }

type intakeReader struct {
	from io.Reader
	in   *intake
}

// Read implements io.Reader.
func (r *intakeReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if r.in.besides.Add(int64(n)) > maxBesides {
		return 0, invalid(fmt.Errorf("the archive has more than %d bytes that belong to none of its files", maxBesides))
	}
	return n, err
}

type intakeWriter struct {
	content.Writer
	in *intake
}

// Write implements io.Writer.
func (w *intakeWriter) Write(p []byte) (int, error) {
	w.in.besides.Add(-int64(len(p)))
	return w.Writer.Write(p)
}
