package image

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"k8s.io/klog/v2"
)

// Remove removes the image that ref names, with all its names, and frees what only it had on disk. Containers that use
// it keep its layers until they are gone. The error of an image that is not here wraps errdefs.ErrNotFound.
func (s *Service) Remove(ctx context.Context, ref string) error {
	if err := s.forgetImage(ctx, ref); err != nil {
		return err
	}
	// Whoever removes an image to make room looks at what there is of it next.
	if err := s.collectNow(s.ctx); err != nil {
		klog.FromContext(ctx).Error(err, "Unused image data stays until the next removal")
	}
	return nil
}

// forgetImage removes the image from what the store knows, but not yet its data.
func (s *Service) forgetImage(ctx context.Context, ref string) error {
	e, ok := s.index.resolve(ref)
	if !ok {
		return fmt.Errorf("image %q: %w", ref, errdefs.ErrNotFound)
	}
	ctx = inStore(context.WithoutCancel(ctx))
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	if err := s.holdChainLocked(ctx, e.ChainID); err != nil {
		return fmt.Errorf("remove image %s: %w", e.ID, err)
	}
	err := s.inTransaction(ctx, func(ctx context.Context) error {
		for _, name := range s.index.namesOf(e.ID) {
			if err := s.images.Delete(ctx, name); err != nil && !errdefs.IsNotFound(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove image %s: %w", e.ID, err)
	}
	s.index.remove(e.ID)
	if !s.uses.held[e.ChainID] && !s.index.hasChain(e.ChainID) {
		delete(s.uses.lowers, e.ChainID)
	}
	return nil
}

func (x *index) hasChain(chain string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.byID {
		if e.ChainID == chain {
			return true
		}
	}
	return false
}

// Export writes the image that ref names, with its tags, as an archive that is OCI layout and docker-save in one.
func (s *Service) Export(ctx context.Context, ref string, w io.Writer) error {
	e, ok := s.index.resolve(ref)
	if !ok {
		return fmt.Errorf("image %q: %w", ref, errdefs.ErrNotFound)
	}
	ctx, done, err := s.hold(ctx)
	if err != nil {
		return err
	}
	defer done(false)
	img, ok := s.index.get(e.ID)
	if !ok {
		return fmt.Errorf("image %q: %w", ref, errdefs.ErrNotFound)
	}
	opts := []archive.ExportOpt{archive.WithPlatform(s.platform), archive.WithManifest(e.target, img.Tags...)}
	if err := archive.Export(ctx, s.content, w, opts...); err != nil {
		return fmt.Errorf("export image %s: %w", ref, err)
	}
	return nil
}

// FsInfo is what all images take on disk, as the store has noted it: nothing is measured.
func (s *Service) FsInfo(ctx context.Context) (FsInfo, error) {
	ctx = inStore(ctx)
	info := FsInfo{Path: s.cfg.Paths.ImageStore, When: time.Now()}
	err := s.content.Walk(ctx, func(blob content.Info) error {
		info.Bytes += blob.Size
		info.Inodes++
		return nil
	})
	if err != nil {
		return FsInfo{}, fmt.Errorf("list the content of the image store: %w", err)
	}
	err = s.snapshots.Walk(ctx, func(ctx context.Context, sn snapshots.Info) error {
		if sn.Kind != snapshots.KindCommitted {
			return nil
		}
		usage, err := s.snapshots.Usage(ctx, sn.Name)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		info.Bytes += usage.Size
		info.Inodes += usage.Inodes
		return nil
	})
	if err != nil {
		return FsInfo{}, fmt.Errorf("list the layers of the image store: %w", err)
	}
	return info, nil
}
