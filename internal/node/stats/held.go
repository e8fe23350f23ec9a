package stats

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// A file without a name takes room until the last process lets go of it, and no walk of folders meets it. It is found
// through the processes: their descriptors and what they have mapped. What one count may cost is bounded; which
// processes a count begins with is random, so that what one leaves out another finds.
const (
	// maxTasks is how many processes, and threads with descriptors of their own, are looked at.
	maxTasks = 4096
	// maxDescriptors is how many descriptors are looked at, in all: a second's work.
	maxDescriptors = 1 << 18
	// maxMappings is how many bytes are read of the processes' lists of mappings, in all.
	maxMappings = 16 << 20
	// maxMountTable is how many bytes are read of the list of mounts of one mount namespace, maxMountTables how many
	// namespaces are read.
	maxMountTable  = 4 << 20
	maxMountTables = 64
)

// nameless is how the kernel marks a file without a name: proc_pid_fd(5).
const nameless = " (deleted)"

// place is what a mount means to its Pod's use of storage.
type place struct {
	// counts reports whether files of the mount count: those of a writable layer and of emptyDirs do.
	counts bool
	// volume is the emptyDir that the mount shows, "" for a layer.
	volume string
}

// fileID tells files apart.
type fileID struct{ device, inode uint64 }

// heldFiles counts the nameless files that the processes of one Pod hold.
type heldFiles struct {
	ctx context.Context
	// emptyDirs is the part of a mount's root that ends where the name of an emptyDir begins.
	emptyDirs string
	// device is that of the Pod's folder, node the node's own mount namespace.
	device, node uint64
	// layers are the devices of the overlays that were met.
	layers map[uint64]bool
	seen   map[fileID]bool
	// tables are the lists of mounts by mount namespace.
	tables map[uint64]map[uint64]place

	tasks, descriptors, mappings int // what may still be looked at

	use     Use
	volumes map[string]Use
}

// countHeld counts what a Pod's processes hold of nameless files in writable layers and emptyDirs: by emptyDir, and the
// rest. dir is the Pod's folder.
func countHeld(ctx context.Context, pids []int, uid types.UID, dir string) (rest Use, volumes map[string]Use, err error) {
	h := &heldFiles{
		ctx: ctx, emptyDirs: "/" + string(uid) + "/volumes/kubernetes.io~empty-dir/",
		layers: map[uint64]bool{}, seen: map[fileID]bool{}, tables: map[uint64]map[uint64]place{}, volumes: map[string]Use{},
		tasks: maxTasks, descriptors: maxDescriptors, mappings: maxMappings,
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err == nil {
		h.device = st.Dev
	}
	if h.node, err = mountNamespace("/proc/self"); err != nil {
		return Use{}, nil, fmt.Errorf("read the node's mount namespace: %w", err)
	}
	for _, i := range rand.Perm(len(pids)) {
		if err := ctx.Err(); err != nil {
			return Use{}, nil, err
		}
		h.process(pids[i])
	}
	return h.use, h.volumes, nil
}

// mountNamespace returns the inode of the mount namespace of a process, given its folder in /proc.
func mountNamespace(proc string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(proc+"/ns/mnt", &st)
	return st.Ino, err
}

// process looks at a process and at those of its threads that have descriptors of their own. One in the node's own mount
// namespace is the shim, or is root on the node and past any limit.
func (h *heldFiles) process(pid int) {
	proc := "/proc/" + strconv.Itoa(pid)
	ns, err := mountNamespace(proc)
	if err != nil || ns == h.node {
		return
	}
	dir, err := os.Open(proc + "/task")
	if err != nil {
		return
	}
	defer dir.Close()
	last := 0
	for h.tasks > 0 && h.descriptors > 0 && h.ctx.Err() == nil {
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			tid, err := strconv.Atoi(name)
			if err != nil || h.tasks == 0 || (last != 0 && sameFiles(pid, tid, last)) {
				continue
			}
			h.tasks--
			h.task(proc+"/task/"+name, ns)
			last = tid
		}
		if err != nil || len(names) == 0 {
			return
		}
	}
}

// sameFiles reports whether a thread shares its descriptors with its process's first thread or with another one: kcmp(2).
func sameFiles(pid, tid, other int) bool {
	const files = 2 // KCMP_FILES
	for _, than := range []int{pid, other} {
		if than == tid {
			continue
		}
		if order, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(than), uintptr(tid), files, 0, 0, 0); e == 0 && order == 0 {
			return true
		}
	}
	return false
}

// task looks at what a task holds.
func (h *heldFiles) task(proc string, ns uint64) {
	if dir, err := os.Open(proc + "/fd"); err == nil {
		defer dir.Close()
		for h.descriptors > 0 && h.ctx.Err() == nil {
			names, err := dir.Readdirnames(batch)
			for _, name := range names {
				h.link(proc, "/fd/"+name, ns)
			}
			h.descriptors -= len(names)
			if err != nil || len(names) == 0 {
				break
			}
		}
	}
	h.mapped(proc, ns)
}

// mapped looks at what a task has mapped.
func (h *heldFiles) mapped(proc string, ns uint64) {
	file, err := os.Open(proc + "/maps")
	if err != nil {
		return
	}
	defer file.Close()
	// map_files is the process's, not the task's.
	process := proc[:strings.Index(proc, "/task/")]
	lines := bufio.NewScanner(io.LimitReader(file, int64(h.mappings)))
	for lines.Scan() {
		h.mappings -= len(lines.Bytes()) + 1
		line := lines.Bytes()
		if span, _, ok := bytes.Cut(line, []byte(" ")); ok && bytes.HasSuffix(line, []byte(nameless)) {
			h.link(process, "/map_files/"+mapName(string(span)), ns)
		}
	}
	h.mappings = max(h.mappings, 0)
}

// mapName turns the range of a line of maps into its name in map_files, which has no leading zeros.
func mapName(span string) string {
	from, to, _ := strings.Cut(span, "-")
	trim := func(s string) string {
		if s = strings.TrimLeft(s, "0"); s == "" {
			return "0"
		}
		return s
	}
	return trim(from) + "-" + trim(to)
}

// link counts the file that a link in /proc leads to if it is nameless and of a mount that counts. The link's text is
// looked at first, and the kernel is told to make do with what it knows: a file system whose server is silent, or is in
// the Pod itself, holds nobody up.
func (h *heldFiles) link(proc, name string, ns uint64) {
	text, err := os.Readlink(proc + name)
	if err != nil || !strings.HasSuffix(text, nameless) {
		return
	}
	var st unix.Statx_t
	const want = unix.STATX_TYPE | unix.STATX_NLINK | unix.STATX_INO | unix.STATX_BLOCKS | unix.STATX_MNT_ID
	if unix.Statx(unix.AT_FDCWD, proc+name, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, want, &st) != nil || st.Nlink != 0 {
		return
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return
	}
	device := unix.Mkdev(st.Dev_major, st.Dev_minor)
	at, known := h.table(proc, ns)[st.Mnt_id]
	if !known {
		// The mount is detached or in a namespace of another process: its device has to do.
		at = place{counts: device == h.device || h.layers[device]}
	}
	id := fileID{device, st.Ino}
	if !at.counts || h.seen[id] {
		return
	}
	h.seen[id] = true
	if at.volume == "" {
		h.use = h.use.plus(st.Blocks*512, 1)
	} else {
		h.volumes[at.volume] = h.volumes[at.volume].plus(st.Blocks*512, 1)
	}
}

// plus returns the use with more bytes and inodes.
func (u Use) plus(bytes, inodes uint64) Use {
	u.Bytes += bytes
	u.Inodes += inodes
	return u
}

// table returns what the mounts of a mount namespace are, by their ID. It is read when a nameless file is met.
func (h *heldFiles) table(proc string, ns uint64) map[uint64]place {
	if t, ok := h.tables[ns]; ok || len(h.tables) == maxMountTables {
		return t
	}
	t := map[uint64]place{}
	h.tables[ns] = t
	list, err := readMounts(proc + "/mountinfo")
	if err != nil {
		return t
	}
	for _, m := range list {
		at := place{}
		if _, name, ok := strings.Cut(m.Root, h.emptyDirs); ok {
			at.counts = true
			at.volume, _, _ = strings.Cut(name, "/")
		} else if m.FSType == "overlay" && strings.Contains(m.VFSOptions, "upperdir=") {
			// The container's root, or an overlay that a process has made in the Pod.
			at.counts = true
			h.layers[unix.Mkdev(uint32(m.Major), uint32(m.Minor))] = true
		}
		t[uint64(m.ID)] = at
	}
	return t
}

// readMounts reads the first maxMountTable bytes of a list of mounts.
func readMounts(path string) ([]*mountinfo.Info, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxMountTable))
	if err != nil {
		return nil, err
	}
	return mountinfo.GetMountsFromReader(bytes.NewReader(text[:bytes.LastIndexByte(text, '\n')+1]), nil)
}
