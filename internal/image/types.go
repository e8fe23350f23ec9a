// Package image keeps the node's container images: it pulls them from registries, takes them in from archives, and
// hands out root file systems made of their shared layers. It is containerd's content store, metadata and overlay
// snapshotter used as a library, in one folder.
package image

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"podium.dev/podium/internal/paths"
)

// Config is what the image store is opened with.
type Config struct {
	// Paths are the node's places: ImageStore for the store, Images for dropped archives, Registries for hosts.toml.
	Paths paths.Paths
	// PinnedRefs are references that image garbage collection must leave alone.
	PinnedRefs []string
}

// Image is one image of the node, known by its configuration's digest; it may have several names.
type Image struct {
	// ID is the digest of the image's configuration: "sha256:…".
	ID string
	// Tags are the full references with a tag, sorted: "docker.io/library/nginx:1.14".
	Tags []string
	// Digests are the full references with a digest, sorted: "docker.io/library/nginx@sha256:…".
	Digests []string
	// Size is what the image takes in the content store, in bytes: manifest, configuration and layers as transferred.
	Size int64
	// Config is the image's run-time configuration: entrypoint, command, environment, user, …
	Config ocispec.ImageConfig
	// ChainID is the digest of all its layers on each other, which names its snapshot. Empty for an image with no layer.
	ChainID string
	// Platform is what the image was made for.
	Platform ocispec.Platform
	// Pinned images are not removed by garbage collection.
	Pinned bool
	// Created is when the image was taken in on this node.
	Created time.Time
}

// Progress tells how far a pull has come.
type Progress struct {
	// Ref is the normalised reference that is pulled.
	Ref string
	// Layers and LayersDone count the image's layers and those of them that are here and unpacked.
	Layers, LayersDone int
	// Bytes and BytesDone count the content's bytes to transfer and those transferred.
	Bytes, BytesDone int64
}

// FsInfo is what the store takes on disk.
type FsInfo struct {
	// Path is a folder on the file system that is measured.
	Path string
	// Bytes and Inodes are used by the images' content and unpacked layers.
	Bytes, Inodes int64
	// When it was measured.
	When time.Time
}
