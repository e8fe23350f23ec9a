package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	continuity "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
)

// The writable layers of containers lie next to the snapshotter, not in it: rootfs/KEY/{fs,work} and a file that says
// whose layers are below. A snapshot would cost two transactions of two databases, each with its fsyncs, when a
// container starts and again when it ends, to keep through a power cut what no container survives. The image's layers
// below, which are shared and must survive, are the snapshotter's; what a container uses of them is kept, when the
// image is removed meanwhile, by a lease, which is all that this costs on disk.

const (
	upperDir = "fs"
	workDir  = "work"
	// useFile names the image of a writable layer. It is written last: a folder without it is not finished.
	useFile = "image.json"
	// trashPrefix marks folders that are being deleted.
	trashPrefix = ".trash-"
	// upperLabel is where the snapshotter tells a layer's folder.
	upperLabel = "containerd.io/snapshot/overlay.upperdir"
)

// use is what a writable layer lies upon.
type use struct {
	Image    string
	Chain    string `json:",omitempty"`
	ReadOnly bool   `json:",omitempty"`
}

// uses knows all writable layers.
type uses struct {
	mu      sync.Mutex
	byKey   map[string]use
	held    map[string]bool     // chains that a lease keeps because their image is gone
	lowers  map[string][]string // folders of a chain's layers, top first
	options []string            // of every overlay mount
}

func (s *Service) rootfsDir(key string) string {
	return filepath.Join(s.cfg.Paths.ImageStore, "rootfs", key)
}

// readUses reads what is on disk; folders that were not finished are put away.
func (s *Service) readUses() error {
	s.uses.byKey, s.uses.held, s.uses.lowers = map[string]use{}, map[string]bool{}, map[string][]string{}
	if needs, err := overlayutils.NeedsUserXAttr(s.rootfsDir("")); err == nil && needs {
		s.uses.options = append(s.uses.options, "userxattr")
	}
	if _, err := os.Stat("/sys/module/overlay/parameters/index"); err == nil {
		// With an index the kernel refuses lower layers that several mounts share.
		s.uses.options = append(s.uses.options, "index=off")
	}
	entries, err := os.ReadDir(s.rootfsDir(""))
	if err != nil {
		return fmt.Errorf("read the containers' writable layers: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), trashPrefix) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(s.rootfsDir(e.Name()), useFile))
		var u use
		if err != nil || json.Unmarshal(raw, &u) != nil {
			if err := s.trash(e.Name()); err != nil {
				return err
			}
			continue
		}
		s.uses.byKey[e.Name()] = u
	}
	held, err := s.leases.List(s.ctx, `labels."`+chainLabel+`"`)
	if err != nil {
		return fmt.Errorf("list the image store's leases: %w", err)
	}
	for _, l := range held {
		s.uses.held[l.Labels[chainLabel]] = true
	}
	return s.releaseUnusedLocked()
}

// Rootfs makes the root file system of a container from an image's layers and a writable one of its own, named by
// key, and returns the mounts that make it appear. Called again for the same key it returns the same
// mounts, also after a restart. With readOnly there is no writable layer. The error wraps errdefs.ErrNotFound when the
// image is no longer here, errdefs.ErrAlreadyExists when the key has another image's.
func (s *Service) Rootfs(ctx context.Context, img Image, key string, readOnly bool) ([]mount.Mount, error) {
	if err := validKey(key); err != nil {
		return nil, err
	}
	want := use{Image: img.ID, Chain: img.ChainID, ReadOnly: readOnly}
	lowers, fresh, err := s.claim(ctx, key, want)
	if err != nil {
		return nil, fmt.Errorf("make the root file system %s of image %s: %w", key, img.ID, err)
	}
	if fresh {
		if err := s.makeLayer(key, want, lowers); err != nil {
			return nil, errors.Join(fmt.Errorf("make the root file system %s of image %s: %w", key, img.ID, err), s.RemoveRootfs(ctx, key))
		}
	}
	return mounts(s.rootfsDir(key), lowers, readOnly, s.uses.options), nil
}

// claim notes that key uses the image, which from then on keeps its layers.
func (s *Service) claim(ctx context.Context, key string, want use) (lowers []string, fresh bool, err error) {
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	have, known := s.uses.byKey[key]
	if known && have != want {
		return nil, false, fmt.Errorf("it is there already, of image %s: %w", have.Image, errdefs.ErrAlreadyExists)
	}
	if !known && !s.uses.held[want.Chain] && !s.touch(want.Image) {
		return nil, false, fmt.Errorf("image %s: %w", want.Image, errdefs.ErrNotFound)
	}
	if lowers, err = s.lowersOfLocked(ctx, want.Chain); err != nil {
		return nil, false, err
	}
	s.uses.byKey[key] = want
	return lowers, !known, nil
}

// touch notes that an image is used now; false when it is not here.
func (s *Service) touch(id string) bool {
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	e, ok := s.index.byID[id]
	if ok {
		e.lastUsed = time.Now()
	}
	return ok
}

// lowersOfLocked are the folders of a chain's layers, the top one first. s.uses.mu is held.
func (s *Service) lowersOfLocked(ctx context.Context, chain string) ([]string, error) {
	if known, ok := s.uses.lowers[chain]; ok || chain == "" {
		return known, nil
	}
	ctx = inStore(ctx)
	var out []string
	for name := chain; name != ""; {
		info, err := s.snapshots.Stat(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("find the unpacked layer %s: %w", name, err)
		}
		dir := info.Labels[upperLabel]
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("the unpacked layer %s is gone; remove the image and pull it again: %w", name, err)
		}
		out, name = append(out, dir), info.Parent
	}
	s.uses.lowers[chain] = out
	return out, nil
}

// makeLayer makes the folders of a writable layer. Its root has the owner of the image's.
func (s *Service) makeLayer(key string, u use, lowers []string) error {
	dir := s.rootfsDir(key)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if !u.ReadOnly {
		if err := os.Mkdir(filepath.Join(dir, upperDir), 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(dir, workDir), 0o711); err != nil {
			return err
		}
		if len(lowers) > 0 {
			if err := copyOwner(lowers[0], filepath.Join(dir, upperDir)); err != nil {
				return err
			}
		}
	} else if len(lowers) == 0 {
		if err := os.Mkdir(filepath.Join(dir, upperDir), 0o755); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, useFile), raw, 0o600)
}

func copyOwner(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && (st.Uid != 0 || st.Gid != 0) {
		return os.Lchown(to, int(st.Uid), int(st.Gid))
	}
	return nil
}

// mounts describes a root file system.
func mounts(dir string, lowers []string, readOnly bool, common []string) []mount.Mount {
	upper := filepath.Join(dir, upperDir)
	mode := "rw"
	if readOnly {
		mode = "ro"
	}
	bind := func(source string) []mount.Mount {
		return []mount.Mount{{Type: "bind", Source: source, Options: []string{"rbind", mode}}}
	}
	switch {
	case len(lowers) == 0:
		return bind(upper)
	case readOnly && len(lowers) == 1:
		return bind(lowers[0])
	}
	options := append([]string{}, common...)
	if !readOnly {
		options = append(options, "workdir="+filepath.Join(dir, workDir), "upperdir="+upper)
	}
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: append(options, "lowerdir="+strings.Join(lowers, ":"))}}
}

// RemoveRootfs deletes a container's writable layer, which must not be mounted any more, and lets go of the image's
// layers. One that is not there is no error. The space is freed soon after.
func (s *Service) RemoveRootfs(_ context.Context, key string) error {
	if err := validKey(key); err != nil {
		return err
	}
	if err := s.trash(key); err != nil {
		return err
	}
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	delete(s.uses.byKey, key)
	if err := s.releaseUnusedLocked(); err != nil {
		return err
	}
	s.work.Go(func() { _ = s.emptyTrash() }) // what fails is tried again with the next
	return nil
}

// trash puts a folder aside in one step, for emptyTrash to delete.
func (s *Service) trash(key string) error {
	err := os.Rename(s.rootfsDir(key), s.rootfsDir(trashPrefix+key))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		if err = os.RemoveAll(s.rootfsDir(trashPrefix + key)); err == nil {
			err = os.Rename(s.rootfsDir(key), s.rootfsDir(trashPrefix+key))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the writable layer %s: %w", key, err)
	}
	return nil
}

func (s *Service) emptyTrash() error {
	entries, err := os.ReadDir(s.rootfsDir(""))
	if err != nil {
		return fmt.Errorf("read the containers' writable layers: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), trashPrefix) {
			errs = append(errs, os.RemoveAll(s.rootfsDir(e.Name())))
		}
	}
	return errors.Join(errs...)
}

// chainLabel marks the leases that keep the layers of removed images, and names the layers.
const chainLabel = "podium.dev/used-chain"

// holdChainLocked keeps the layers of an image that is being removed while containers use them. s.uses.mu is held.
func (s *Service) holdChainLocked(ctx context.Context, chain string) error {
	used := false
	for _, u := range s.uses.byKey {
		used = used || (u.Chain == chain && chain != "")
	}
	if !used || s.uses.held[chain] {
		return nil
	}
	l, err := s.leases.Create(ctx, leases.WithID("used-"+chain), leases.WithLabel(chainLabel, chain))
	if err == nil {
		err = s.leases.AddResource(ctx, l, leases.Resource{ID: chain, Type: "snapshots/" + snapshotterName})
	}
	if err != nil {
		return fmt.Errorf("keep the layers that containers use: %w", err)
	}
	s.uses.held[chain] = true
	return nil
}

// releaseUnusedLocked lets go of the layers of removed images that no container uses any more. s.uses.mu is held, or there
// is nobody else yet.
func (s *Service) releaseUnusedLocked() error {
	if len(s.uses.held) == 0 {
		return nil
	}
	used := map[string]bool{}
	for _, u := range s.uses.byKey {
		used[u.Chain] = true
	}
	for chain := range s.uses.held {
		if used[chain] {
			continue
		}
		if err := s.leases.Delete(s.ctx, leases.Lease{ID: "used-" + chain}); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("let go of the layers of a removed image: %w", err)
		}
		delete(s.uses.held, chain)
		delete(s.uses.lowers, chain)
		s.requestCollect()
	}
	return nil
}

// Usage is what a container's writable layer takes on disk. Its error wraps errdefs.ErrNotFound when there is none.
func (s *Service) Usage(ctx context.Context, key string) (bytes, inodes int64, err error) {
	if err := validKey(key); err != nil {
		return 0, 0, err
	}
	s.uses.mu.Lock()
	u, ok := s.uses.byKey[key]
	s.uses.mu.Unlock()
	if !ok {
		return 0, 0, fmt.Errorf("the writable layer %s: %w", key, errdefs.ErrNotFound)
	}
	if u.ReadOnly {
		return 0, 0, nil
	}
	usage, err := continuity.DiskUsage(ctx, filepath.Join(s.rootfsDir(key), upperDir))
	if err != nil {
		return 0, 0, fmt.Errorf("measure the writable layer %s: %w", key, err)
	}
	return usage.Size, usage.Inodes, nil
}

// validKey keeps a key from leading out of the folder.
func validKey(key string) error {
	if key == "" || key != filepath.Base(key) || strings.HasPrefix(key, ".") {
		return invalid(fmt.Errorf("%q is not a name for a root file system", key))
	}
	return nil
}
