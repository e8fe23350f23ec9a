package image

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/image/layer"
)

// applier unpacks layers into the directories of snapshots. It mounts nothing: a mount would outlive a daemon that is
// killed.
type applier struct{ blobs content.Provider }

// Apply implements diff.Applier. The mounts are those of the overlay snapshotter.
func (a applier) Apply(ctx context.Context, d ocispec.Descriptor, mounts []mount.Mount, _ ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	if _, err := images.DiffCompression(ctx, d.MediaType); err != nil {
		return ocispec.Descriptor{}, invalid(err)
	}
	where, err := layerDirs(mounts)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	blob, err := a.blobs.ReaderAt(ctx, d)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("open the layer: %w", err)
	}
	defer blob.Close()
	result, err := layer.Apply(ctx, content.NewReader(blob), where)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	// The metadata that the layer is there is synced when it is committed, and must not outlive the files.
	if err := syncFileSystem(where.Dir); err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Size: result.Size, Digest: result.Digest}, nil
}

// layerDirs returns the directories that the overlay snapshotter would mount: a directory alone, or an overlay.
func layerDirs(mounts []mount.Mount) (layer.Options, error) {
	if len(mounts) != 1 {
		return layer.Options{}, fmt.Errorf("a snapshot of %d mounts; 1 is expected", len(mounts))
	}
	m := mounts[0]
	switch m.Type {
	case "bind":
		return layer.Options{Dir: m.Source}, nil
	case "overlay":
		var o layer.Options
		for _, option := range m.Options {
			key, value, _ := strings.Cut(option, "=")
			switch key {
			case "upperdir":
				o.Dir = value
			case "lowerdir":
				o.Lowers = strings.Split(value, ":")
			case "userxattr":
				o.UserXattr = true
			}
		}
		if o.Dir != "" && len(o.Lowers) > 0 {
			return o, nil
		}
	}
	return layer.Options{}, fmt.Errorf("a snapshot with the mount %s (%s) cannot be unpacked into", m.Type, strings.Join(m.Options, ","))
}

// syncFileSystem waits until all that was written to a directory's file system is on disk.
func syncFileSystem(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}
