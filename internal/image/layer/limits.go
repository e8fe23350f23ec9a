package layer

import (
	"fmt"
)

// What a layer may hold. The author of an image chooses the archive, so each of its dimensions has a bound.
const (
	// maxEntries bounds the files, directories and links of a layer, including the directories that it only implies.
	// The largest known images have some 500 000.
	maxEntries = 2_000_000
	// maxUnpacked bounds the sizes of a layer's files, holes included, on disks with more room than that: reading the
	// zeros of a hole takes time, about a second for each 5 GB.
	maxUnpacked = 1 << 40
	// headersPerEntry is the room in the archive for the headers and the padding of an entry, on average.
	headersPerEntry = 2 << 10
	// maxPath is PATH_MAX (path_resolution(7)). It also bounds the depth of the tree, which keeps it removable.
	maxPath = 4096
	// maxComponent is NAME_MAX of Linux file systems.
	maxComponent = 255
	// maxTarget bounds the target of a symbolic link: PATH_MAX without the final NUL (symlink(2)).
	maxTarget = maxPath - 1
	// maxXattrName, maxXattrValue and maxXattrNames are the kernel's bounds on the name and the value of an extended
	// attribute, and on the names of all those of a file (xattr(7)).
	maxXattrName  = 255
	maxXattrValue = 64 << 10
	maxXattrNames = 64 << 10
	// maxDirectoryNames bounds the memory for the directories whose times are set when all else is done.
	maxDirectoryNames = 64 << 20
	// maxLinks bounds the dangling symbolic links that lead to a directory to be made, as the kernel bounds others
	// (MAXSYMLINKS in path_resolution(7)).
	maxLinks = 40
	// maxMajor and maxMinor are the largest device numbers of Linux: 12 and 20 bits.
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
	// maxID is the largest user or group ID; the next one means «unchanged» to chown(2).
	maxID = 1<<32 - 2
	// maxWindow bounds the memory of a zstd decoder. RFC 8878 asks decoders for 8 MiB; `zstd --ultra --long` needs this much.
	maxWindow = 128 << 20
)

// limits are the bounds that tests lower.
type limits struct {
	entries        int
	unpacked       int64
	directoryNames int
}

var standard = limits{entries: maxEntries, unpacked: maxUnpacked, directoryNames: maxDirectoryNames}

// invalidError marks an error as the layer's fault. errdefs.IsInvalidArgument recognizes it.
type invalidError struct{ error }

// InvalidParameter implements the interface that errdefs looks for.
func (invalidError) InvalidParameter() {}

func (e invalidError) Unwrap() error { return e.error }

func invalid(format string, args ...any) error { return invalidError{fmt.Errorf(format, args...)} }
