package stats

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// FileSystem is what a file system has, in bytes and inodes.
type FileSystem struct {
	At time.Time
	// Device tells file systems apart.
	Device uint64
	// Available is what others than root may still take.
	Capacity, Used, Available uint64
	// Inodes is 0 where they are not counted.
	Inodes, InodesFree uint64
}

// ReadFileSystem reads the file system that a folder is on.
func ReadFileSystem(path string, now time.Time) (FileSystem, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return FileSystem{}, fmt.Errorf("read the file system of %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return FileSystem{}, fmt.Errorf("read the file system of %s: %w", path, err)
	}
	block := uint64(fs.Frsize)
	return FileSystem{
		At: now, Device: st.Dev,
		Capacity: fs.Blocks * block, Used: (fs.Blocks - fs.Bfree) * block, Available: fs.Bavail * block,
		Inodes: fs.Files, InodesFree: fs.Ffree,
	}, nil
}

// Room is the file system as the place where something lies, whose own use is not told.
func (f FileSystem) Room() *stats.FsStats {
	out := &stats.FsStats{Time: metav1.NewTime(f.At), AvailableBytes: &f.Available, CapacityBytes: &f.Capacity}
	if f.Inodes > 0 {
		out.Inodes, out.InodesFree = &f.Inodes, &f.InodesFree
	}
	return out
}

// Whole is the file system with what is used of it by all.
func (f FileSystem) Whole() *stats.FsStats {
	out := f.Room()
	out.UsedBytes = &f.Used
	if f.Inodes > 0 {
		used := f.Inodes - f.InodesFree
		out.InodesUsed = &used
	}
	return out
}

// with is the room, with what is used of it by something.
func with(room *stats.FsStats, u Use) *stats.FsStats {
	out := *room
	out.UsedBytes, out.InodesUsed = &u.Bytes, &u.Inodes
	if u.At.After(out.Time.Time) {
		out.Time = metav1.NewTime(u.At)
	}
	return &out
}
