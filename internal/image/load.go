package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"podium.dev/podium/internal/image/layer"
	"podium.dev/podium/internal/safeopen"
)

// Load takes in the images of an archive: docker-save or OCI layout, plain, gzip or zstd. An archive that is bad in
// any part leaves the store as it was; the error of one whose content is at fault wraps errdefs.ErrInvalidArgument.
func (s *Service) Load(ctx context.Context, path string) ([]Image, error) {
	f, err := safeopen.Following(path)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	defer f.Close()
	imgs, err := s.load(ctx, f, repositoryOf(path))
	if err != nil {
		return nil, fmt.Errorf("load images from %s: %w", path, err)
	}
	return imgs, nil
}

func (s *Service) load(ctx context.Context, r io.Reader, repository string) (imgs []Image, err error) {
	ctx, done, err := s.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { done(err != nil) }()
	plain, err := layer.Decompress(r)
	if err != nil {
		return nil, badArchive(err)
	}
	defer plain.Close()
	// The archive's own names for its parts are told apart from those of others that are read at the same time.
	in := &intake{Store: s.roomy(), prefix: rand.Text() + "-"}
	root, err := archive.ImportIndex(ctx, in, in.reader(plain))
	if err != nil {
		return nil, badArchive(err)
	}
	manifests, err := images.Children(ctx, documents{s.content}, root)
	if err != nil {
		return nil, badArchive(err)
	}
	found, err := targetsOf(manifests, repository)
	if err != nil {
		return nil, badArchive(err)
	}
	for _, t := range found {
		if err := s.bring(ctx, t.desc, nil, nil); err != nil {
			return nil, badArchive(err)
		}
	}
	for _, t := range found {
		img, err := s.record(ctx, t.desc, t.names)
		if err != nil {
			return nil, err
		}
		imgs = append(imgs, img)
	}
	if len(imgs) == 0 {
		return nil, badArchive(errors.New("there is no image in it"))
	}
	return imgs, nil
}

// badArchive marks errors that are the archive's fault, not the store's.
func badArchive(err error) error {
	switch {
	case isStoreError(err):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return invalid(fmt.Errorf("the archive is cut short: %w", err))
	case errdefs.IsNotFound(err):
		return invalid(fmt.Errorf("the archive lacks a part, or a part does not match its digest: %w", err))
	}
	return invalid(err)
}

// isStoreError reports whether an error is of this machine: the disk, or that the caller went away.
func isStoreError(err error) bool {
	return errors.As(err, new(*os.PathError)) || errors.As(err, new(*os.SyscallError)) || errors.As(err, new(*os.LinkError)) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// loadTarget is an image of an archive with all its names.
type loadTarget struct {
	desc  ocispec.Descriptor
	names []string
}

// targetsOf are the images of an archive's index, each once. Manifests of other things, such as attestations, are
// none.
func targetsOf(manifests []ocispec.Descriptor, repository string) ([]loadTarget, error) {
	var out []loadTarget
	at := map[digest.Digest]int{}
	for _, m := range manifests {
		if m.Annotations[images.AnnotationManifestSubject] != "" {
			continue
		}
		i, known := at[m.Digest]
		if !known {
			i, at[m.Digest] = len(out), len(out)
			plain := m
			plain.Annotations = nil
			out = append(out, loadTarget{desc: plain})
		}
		ref := archiveName(m.Annotations, repository)
		if ref == "" {
			continue
		}
		named, err := normalize(ref)
		if err != nil {
			return nil, err
		}
		all := names(named, m.Digest)
		if m.MediaType == images.MediaTypeDockerSchema2Manifest {
			// A docker-save archive has no manifest; the one made from it has a digest that no registry knows.
			all = all[:len(all)-1]
		}
		out[i].names = append(out[i].names, all...)
	}
	return out, nil
}

// archiveName is the name that an archive gives an image: containerd's annotation, or OCI's, which may be a tag alone
// and then is one of the repository the archive itself is named after.
func archiveName(annotations map[string]string, repository string) string {
	if name := annotations[images.AnnotationImageName]; name != "" {
		return name
	}
	name := annotations[ocispec.AnnotationRefName]
	switch {
	case name == "" || strings.ContainsAny(name, "/:@"):
		return name
	case repository == "":
		return ""
	}
	return repository + ":" + name
}

// repositoryOf names a repository after an archive's file; "" when the file has no name fit for one.
func repositoryOf(path string) string {
	base := strings.ToLower(filepath.Base(path))
	for _, ending := range archiveEndings {
		if trimmed, ok := strings.CutSuffix(base, ending); ok {
			base = trimmed
			break
		}
	}
	if _, err := normalize(base); err != nil || strings.ContainsAny(base, "/:@") {
		return ""
	}
	return base
}

// archiveEndings are the endings of archives' names, longer ones first.
var archiveEndings = []string{".tar.gz", ".tar.zst", ".tar.zstd", ".tgz", ".tzst", ".tar"}
