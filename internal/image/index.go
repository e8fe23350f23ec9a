package image

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"k8s.io/klog/v2"
)

// index knows all images in memory, by ID and by every name.
type index struct {
	mu    sync.RWMutex
	byID  map[string]*entry
	names map[string]string // name to ID
}

// entry is an image, what its names lead to, and when a container was last made from it.
type entry struct {
	Image
	target   ocispec.Descriptor
	lastUsed time.Time
}

// describe reads what there is to know of the image that target leads to on this platform.
func (s *Service) describe(ctx context.Context, target ocispec.Descriptor) (Image, error) {
	manifest, err := images.Manifest(ctx, documents{s.content}, target, s.platform)
	if err != nil {
		return Image{}, fmt.Errorf("read the image's manifest: %w", err)
	}
	raw, err := content.ReadBlob(ctx, documents{s.content}, manifest.Config)
	if err != nil {
		return Image{}, fmt.Errorf("read the image's configuration: %w", err)
	}
	var config ocispec.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		return Image{}, fmt.Errorf("read the image's configuration %s: %w", manifest.Config.Digest, err)
	}
	img := Image{
		ID: manifest.Config.Digest.String(), Config: config.Config, Platform: config.Platform,
		Size: target.Size + manifest.Config.Size,
	}
	for _, l := range manifest.Layers {
		img.Size += l.Size
	}
	if ids := config.RootFS.DiffIDs; len(ids) > 0 {
		img.ChainID = identity.ChainID(ids).String()
	}
	return img, nil
}

// readIndex builds the index from the store. A name whose image cannot be read is passed over, and told.
func (s *Service) readIndex() error {
	s.index.byID, s.index.names = map[string]*entry{}, map[string]string{}
	all, err := s.images.List(s.ctx)
	if err != nil {
		return fmt.Errorf("list the images of the store: %w", err)
	}
	described := map[digest.Digest]Image{}
	for _, record := range all {
		img, ok := described[record.Target.Digest]
		if !ok {
			if img, err = s.describe(s.ctx, record.Target); err != nil {
				klog.FromContext(s.ctx).Error(err, "An image of the store cannot be read; pull it again", "image", record.Name)
				continue
			}
			described[record.Target.Digest] = img
		}
		s.index.add(img, record, s.cfg.PinnedRefs)
	}
	return nil
}

// add takes in that record names img.
func (x *index) add(img Image, record images.Image, pinned []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, ok := x.names[record.Name]; ok && old != img.ID {
		x.unname(record.Name)
	}
	e := x.byID[img.ID]
	if e == nil {
		e = &entry{Image: img, target: record.Target}
		e.Created, e.Tags, e.Digests = record.CreatedAt, nil, nil
		x.byID[img.ID] = e
	}
	if record.CreatedAt.Before(e.Created) {
		e.Created = record.CreatedAt
	}
	x.names[record.Name] = img.ID
	switch {
	case isTag(record.Name):
		e.Tags = insert(e.Tags, record.Name)
	case isDigest(record.Name):
		e.Digests = insert(e.Digests, record.Name)
	}
	e.Pinned = e.Pinned || slices.Contains(pinned, record.Name)
}

// unname forgets a name. The image stays under its others.
func (x *index) unname(name string) {
	e := x.byID[x.names[name]]
	delete(x.names, name)
	if e == nil {
		return
	}
	gone := func(n string) bool { return n == name }
	// New slices: those handed out stay as they were.
	e.Tags = slices.DeleteFunc(slices.Clone(e.Tags), gone)
	e.Digests = slices.DeleteFunc(slices.Clone(e.Digests), gone)
}

// insert adds a name to a sorted list, which is not changed: it may have been handed out.
func insert(sorted []string, name string) []string {
	i, found := slices.BinarySearch(sorted, name)
	if found {
		return sorted
	}
	return slices.Insert(slices.Clone(sorted), i, name)
}

// namesOf are all names of an image, its ID among them.
func (x *index) namesOf(id string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []string
	for name, owner := range x.names {
		if owner == id {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// remove forgets an image with all its names.
func (x *index) remove(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.DeleteFunc(x.names, func(_, owner string) bool { return owner == id })
	delete(x.byID, id)
}

// resolve finds an image by any form of its name, by its ID or by the unambiguous beginning of one.
func (x *index) resolve(ref string) (*entry, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e, ok := x.byID[x.names[ref]]; ok {
		return e, true
	}
	if !isID(ref) {
		if full, err := Normalize(ref); err == nil {
			if e, ok := x.byID[x.names[full]]; ok {
				return e, true
			}
		}
	}
	return x.byPrefix(ref)
}

// minPrefix is the least that an ID can be shortened to.
const minPrefix = 4

func (x *index) byPrefix(ref string) (*entry, bool) {
	short := strings.TrimPrefix(ref, "sha256:")
	if len(short) < minPrefix {
		return nil, false
	}
	var found *entry
	for id, e := range x.byID {
		if strings.HasPrefix(id, "sha256:"+short) {
			if found != nil {
				return nil, false
			}
			found = e
		}
	}
	return found, found != nil
}

// get is the image with the ID.
func (x *index) get(id string) (Image, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e, ok := x.byID[id]; ok {
		return e.Image, true
	}
	return Image{}, false
}

// Find returns the image that ref names: in its short or full form, by tag, by digest, by ID or by the beginning
// of an ID. The error of one that is not here wraps errdefs.ErrNotFound.
func (s *Service) Find(_ context.Context, ref string) (Image, error) {
	e, ok := s.index.resolve(ref)
	if !ok {
		return Image{}, fmt.Errorf("image %q: %w", ref, errdefs.ErrNotFound)
	}
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return e.Image, nil
}

// List returns all images, by ID.
func (s *Service) List(context.Context) ([]Image, error) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	out := make([]Image, 0, len(s.index.byID))
	for _, id := range slices.Sorted(maps.Keys(s.index.byID)) {
		out = append(out, s.index.byID[id].Image)
	}
	return out, nil
}

// LastUsed is when a container was last made from the image since the store was opened, or when the image came here.
// An image that is not here gives the zero time.
func (s *Service) LastUsed(id string) time.Time {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	e, ok := s.index.byID[id]
	switch {
	case !ok:
		return time.Time{}
	case e.lastUsed.IsZero():
		return e.Created
	}
	return e.lastUsed
}

// record keeps the image that target leads to under the given names and its ID, in one transaction, and puts it into
// the index. A name that another image had goes over to this one.
func (s *Service) record(ctx context.Context, target ocispec.Descriptor, names []string) (Image, error) {
	img, err := s.describe(ctx, target)
	if err != nil {
		return Image{}, err
	}
	var records []images.Image
	for _, name := range append(slices.Clone(names), img.ID) {
		records = append(records, images.Image{Name: name, Target: target})
	}
	s.uses.mu.Lock() // no removal between what is stored and what is known
	defer s.uses.mu.Unlock()
	err = s.inTransaction(ctx, func(ctx context.Context) error {
		for i, r := range records {
			kept, err := s.images.Create(ctx, r)
			if errdefs.IsAlreadyExists(err) {
				kept, err = s.images.Update(ctx, r, "target")
			}
			if err != nil {
				return fmt.Errorf("name the image %s: %w", r.Name, err)
			}
			records[i] = kept
		}
		return nil
	})
	if err != nil {
		return Image{}, err
	}
	for _, r := range records {
		s.index.add(img, r, s.cfg.PinnedRefs)
	}
	img, _ = s.index.get(img.ID)
	return img, nil
}
