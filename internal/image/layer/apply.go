// Package layer unpacks the layers of container images: tar archives that describe what changes in a file system
// (https://github.com/opencontainers/image-spec/blob/main/layer.md), into a directory for overlayfs.
//
// A layer's author is not trusted. Nothing outside the directory is read or written, whatever links the layer has; all
// that it makes is bounded; holes of sparse files stay holes, and the disk keeps a reserve. Nobody else may write to
// the directory meanwhile.
package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Options say where a layer is unpacked.
type Options struct {
	// Dir is the directory that receives the layer: the upper directory of an overlay, or the lowest layer.
	Dir string
	// Lowers are the directories of the layers below, the top one first. A directory that the layer does not describe
	// gets owner, mode and times from them. With none of them there is nothing to hide, and whiteouts are ignored.
	Lowers []string
	// UserXattr is for overlays that are mounted with the option userxattr.
	UserXattr bool
}

// Result describes the archive of an unpacked layer.
type Result struct {
	// Digest is the digest of the uncompressed archive: the layer's diff ID.
	Digest digest.Digest
	// Size is the length of the uncompressed archive in bytes.
	Size int64
}

// Apply unpacks the layer that r has: a tar archive, plain or compressed with gzip or zstd. It reads r to its end, and
// no longer when it returns. After an error the directory holds a part of the layer and is good only for removal. The
// error wraps ENOSPC when the layer does not fit on the disk; errdefs.IsInvalidArgument recognizes the error of a layer
// that is beyond other bounds or makes no sense.
func Apply(ctx context.Context, r io.Reader, o Options) (Result, error) {
	room, err := NewRoom(o.Dir)
	if err != nil {
		return Result{}, err
	}
	return apply(ctx, r, o, standard, room)
}

func apply(ctx context.Context, r io.Reader, o Options, l limits, room *Room) (Result, error) {
	plain, err := Decompress(r)
	if err != nil {
		return Result{}, fmt.Errorf("read the layer: %w", err)
	}
	defer plain.Close()
	a := &applier{ctx: ctx, limits: l, room: room, buf: make([]byte, chunk)}
	if a.tree, err = openTree(o, a.made, l.directoryNames); err != nil {
		return Result{}, err
	}
	defer a.tree.close()
	room.unclaimed = min(room.unclaimed, l.unpacked)
	src := newStream(ctx, plain, room.unclaimed+int64(l.entries)*headersPerEntry)
	defer src.close()
	if err := a.run(tar.NewReader(src)); err != nil {
		return Result{}, err
	}
	// The digest is that of all there is, also after the archive's end.
	if _, err := io.Copy(io.Discard, src); err != nil {
		return Result{}, fmt.Errorf("read the layer: %w", err)
	}
	return Result{Digest: digest.NewDigestFromBytes(digest.SHA256, src.hash.Sum(make([]byte, 0, sha256.Size))), Size: src.size}, nil
}

// applier is the state of one unpacking.
type applier struct {
	ctx     context.Context
	limits  limits
	room    *Room
	tree    *tree
	entries int
	buf     []byte
}

// run makes the entries of the archive and then sets the times of directories, which every entry in them changes.
func (a *applier) run(archive *tar.Reader) error {
	for {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return a.tree.setTimes()
		case errors.Is(err, tar.ErrHeader):
			return invalid("read the layer: %w", err)
		case err != nil && !errors.Is(err, tar.ErrInsecurePath): // insecure paths are resolved below the root
			return fmt.Errorf("read the layer: %w", err)
		}
		if err := a.entry(h, archive); err != nil {
			return fmt.Errorf("unpack %s: %w", shown(h.Name), err)
		}
	}
}

// shown quotes a name for an error; only the beginning of a long one.
func shown(name string) string {
	const most = 200
	if len(name) > most {
		return fmt.Sprintf("%q…", name[:most])
	}
	return fmt.Sprintf("%q", name)
}

// made counts an entry of the layer, or a directory that one implies.
func (a *applier) made() error {
	if a.entries++; a.entries > a.limits.entries {
		return invalid("the layer has more than %d files", a.limits.entries)
	}
	return a.room.Made()
}

// entry makes one entry. Entries for the root itself are ignored, as container runtimes do.
func (a *applier) entry(h *tar.Header, data io.Reader) error {
	if err := a.made(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := checkHeader(h); err != nil {
		return err
	}
	// Also of data that is then passed over.
	if err := a.room.Claim(h.Size); err != nil {
		return err
	}
	name := clean(h.Name)
	if name == "" {
		return nil
	}
	parent, base := split(name)
	dir, err := a.tree.open(parent)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return a.whiteout(dir, base, h)
	}
	return a.make(dir, base, h, data)
}

// clean returns a path in its shortest form, relative to the root, which is "". No ".." leads above the root.
func clean(name string) string { return path.Clean("/" + name)[1:] }

// split returns the directory and the last component of a path in its shortest form.
func split(name string) (parent, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

// checkHeader rejects entries with names or numbers that no file can have.
func checkHeader(h *tar.Header) error {
	if len(h.Name) > maxPath {
		return invalid("its name has %d bytes; %d are allowed", len(h.Name), maxPath)
	}
	for part := range strings.SplitSeq(h.Name, "/") {
		if len(part) > maxComponent {
			return invalid("a part of its name has %d bytes; %d are allowed", len(part), maxComponent)
		}
	}
	switch {
	case len(h.Linkname) > maxTarget:
		return invalid("the target of the link has %d bytes; %d are allowed", len(h.Linkname), maxTarget)
	case h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID:
		return invalid("its owner %d:%d does not exist on Linux", h.Uid, h.Gid)
	case h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor:
		return invalid("the device %d:%d does not exist on Linux", h.Devmajor, h.Devminor)
	}
	return nil
}

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// whiteout hides what the layers below have: all of a directory, or one name. Per the specification it does not affect
// entries of its own layer, in whatever order they come.
func (a *applier) whiteout(dir directory, base string, h *tar.Header) error {
	if base == whiteoutOpaque {
		return a.tree.hideLower(dir, ".")
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return invalid("it is not a name of a whiteout")
	}
	if !a.tree.hasLowers() {
		return nil
	}
	err := unix.Mknodat(dir.fd, hidden, unix.S_IFCHR, 0)
	if errors.Is(err, unix.EEXIST) {
		kind, err := kindOf(dir, hidden)
		if err == nil && kind == isDirectory {
			return a.tree.hideLower(dir, hidden)
		}
		return err
	}
	if err != nil {
		return failed("mknod", dir, hidden, err)
	}
	return owner(dir, hidden, h.Uid, h.Gid)
}

// timeOf returns a time for utimensat(2). Times that do not fit into 64 bits of nanoseconds since 1970 become 1970, as
// with other container runtimes.
func timeOf(sec int64, nsec int) unix.Timespec {
	if sec < 0 || sec >= math.MaxInt64/1_000_000_000 {
		return unix.Timespec{}
	}
	return unix.Timespec{Sec: sec, Nsec: int64(nsec)}
}
