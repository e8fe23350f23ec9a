package image

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pull brings an image from its registry, or from its archive in the images folder, and unpacks it. The same image asked for twice at once, with the same
// credentials, is transferred once; when all who asked have gone (their ctx ended) the transfer ends. progress, which
// may be nil, is called from one goroutine at a time, now and then, and must not block. A pull that fails leaves the
// store as it was. Code tells an error's kind.
func (s *Service) Pull(ctx context.Context, ref string, auth *runtimeapi.AuthConfig, progress func(Progress)) (Image, error) {
	named, err := normalize(ref)
	if err != nil {
		return Image{}, err
	}
	if img, ok := s.fromDrop(ctx, named.String()); ok {
		return img, nil
	}
	// Who may not read an image must not get it by asking at the right time.
	key := fmt.Sprintf("%s %x", named, sha256.Sum256([]byte(auth.String())))
	return s.flights.join(ctx, s.start, key, progress, func(ctx context.Context, report func(Progress)) (Image, error) {
		img, err := s.pull(ctx, named, auth, report)
		if err != nil {
			return Image{}, fmt.Errorf("failed to pull and unpack image %q: %w", named, err)
		}
		return img, nil
	})
}

func (s *Service) pull(ctx context.Context, named reference.Named, auth *runtimeapi.AuthConfig, report func(Progress)) (img Image, err error) {
	if err := s.checkSettings(reference.Domain(named)); err != nil {
		return Image{}, err
	}
	ctx, done, err := s.hold(ctx)
	if err != nil {
		return Image{}, err
	}
	defer func() { done(err != nil) }()
	ref := named.String()
	resolver := s.resolver(ctx, auth)
	name, target, err := resolver.Resolve(ctx, ref)
	if err != nil {
		return Image{}, fmt.Errorf("failed to resolve reference %q: %w", ref, err)
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return Image{}, fmt.Errorf("failed to get fetcher for %q: %w", name, err)
	}
	meter := &meter{ref: ref, report: report, next: fetcher}
	source, err := docker.AppendDistributionSourceLabel(s.content, ref)
	if err != nil {
		return Image{}, err
	}
	fetch := images.Handlers(remotes.FetchHandler(s.roomy(), meter), meter.arrived(), source)
	if err := s.bring(ctx, target, fetch, meter.expect); err != nil {
		return Image{}, err
	}
	meter.finish()
	return s.record(ctx, target, names(named, target.Digest))
}

// reportEvery is how many bytes come between two reports of progress.
const reportEvery = 1 << 20

// meter counts what a pull fetches.
type meter struct {
	ref    string
	report func(Progress)
	next   remotes.Fetcher

	mu         sync.Mutex
	state      Progress
	unreported atomic.Int64
}

// change changes the state and reports it.
func (m *meter) change(f func(*Progress)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.state)
	m.state.Ref = m.ref
	m.report(m.state)
}

// expect counts what a manifest says is to come.
func (m *meter) expect(manifest ocispec.Descriptor, children []ocispec.Descriptor) {
	if !images.IsManifestType(manifest.MediaType) {
		return
	}
	m.change(func(p *Progress) {
		for _, d := range children {
			p.Bytes += d.Size
			if images.IsLayerType(d.MediaType) {
				p.Layers++
			}
		}
	})
}

// arrived counts a layer that is here.
func (m *meter) arrived() images.HandlerFunc {
	return func(_ context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if images.IsLayerType(d.MediaType) {
			m.change(func(p *Progress) { p.LayersDone++ })
		}
		return nil, nil
	}
}

// finish says that all is here: layers that were here before the pull are not fetched, and so not counted.
func (m *meter) finish() {
	m.change(func(p *Progress) { p.LayersDone, p.BytesDone = p.Layers, p.Bytes })
}

// Fetch implements remotes.Fetcher.
func (m *meter) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := m.next.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	return &meteredReader{ReadCloser: rc, meter: m}, nil
}

func (m *meter) read(n int) {
	if m.unreported.Add(int64(n)) < reportEvery {
		return
	}
	// A transfer that begins again counts twice; no more than all is told.
	m.change(func(p *Progress) { p.BytesDone = min(p.BytesDone+m.unreported.Swap(0), p.Bytes) })
}

type meteredReader struct {
	io.ReadCloser
	meter *meter
}

func (r *meteredReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.meter.read(n)
	return n, err
}

// Seek lets an interrupted transfer go on where it was.
func (r *meteredReader) Seek(offset int64, whence int) (int64, error) {
	if s, ok := r.ReadCloser.(io.Seeker); ok {
		return s.Seek(offset, whence)
	}
	return 0, fmt.Errorf("this registry cannot go on in the middle of a blob")
}
