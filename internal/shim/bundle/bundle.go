// Package bundle is what the runtime hands to the short-lived process that makes a container: an OCI runtime
// configuration and the few other things that can only be done, or only be known, in that process.
package bundle

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// FileName is the bundle's file in the container's folder.
const FileName = "bundle.json"

// RootfsDir and ShmDir are the folders of Bundle.Private on which the root file system and the Pod's /dev/shm are
// mounted. Every container uses the same ones: each has them in a mount namespace of its own.
const (
	RootfsDir = "rootfs"
	ShmDir    = "shm"
	ImagesDir = "images"
)

// Bundle describes one container to be made.
type Bundle struct {
	// ID is the container's.
	ID string
	// Private is a folder on a mount with private propagation, so that what is mounted below it in a mount
	// namespace is seen by no other.
	Private string
	// Rootfs is mounted, in order, on Private/RootfsDir, which is the root of Spec.
	Rootfs []Mount
	// Images are mounted on Private/ImagesDir/N, N being the index here; a mount of Spec may take such a folder, or
	// something inside it, as its source.
	Images []ImageMount
	// ShmPID is the process whose /shm mount is the Pod's /dev/shm; it becomes Private/ShmDir. 0 for none.
	ShmPID int
	// User is who runs the process. Names are looked up in the container's /etc/passwd and /etc/group.
	User User
	// SeccompCache is the folder of compiled seccomp profiles; empty for none.
	SeccompCache string
	// Spec is the rest. Its Process.User is filled in from User.
	Spec *specs.Spec
}

// Mount is a mount(2) with its options in fstab's words.
type Mount struct {
	Type, Source string
	Options      []string
}

// ImageMount is the content of an image that is mounted as a volume.
type ImageMount struct {
	Mounts []Mount
	// SubPath is the folder of the image that is wanted; it is looked up inside the image only.
	SubPath string
}

// User says who runs the container's process.
type User struct {
	// Name is USER, USER:GROUP, UID, UID:GID …; empty is root.
	Name string
	// Groups are supplementary groups to have besides those that the container's /etc/group gives.
	Groups []uint32
	// Strict leaves out the groups that /etc/group gives.
	Strict bool
}

// processFile is the container's first process as it was started, in the container's folder.
const processFile = "process.json"

// Process is what a further process in the container takes after.
type Process struct {
	Process      *specs.Process
	SeccompCache string
}

// WriteProcess keeps the container's first process in its folder.
func WriteProcess(dir string, p *Process) error { return write(filepath.Join(dir, processFile), p) }

// ReadProcess takes the container's first process from its folder.
func ReadProcess(dir string) (*Process, error) {
	p := &Process{}
	return p, read(filepath.Join(dir, processFile), p)
}

// Write puts the bundle into the container's folder.
func Write(dir string, b *Bundle) error { return write(filepath.Join(dir, FileName), b) }

// Read takes the bundle from the container's folder.
func Read(dir string) (*Bundle, error) {
	b := &Bundle{}
	return b, read(filepath.Join(dir, FileName), b)
}

func write(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return os.WriteFile(path, data, 0o600)
}

func read(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}
