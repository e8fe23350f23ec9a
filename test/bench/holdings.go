package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// holdings are what a node has on the machine: of Pods, and for itself.
type holdings struct {
	// Of Pods: records, shims and pauses, mounts, network namespaces, addresses, cgroups, folders of volumes and logs.
	Sandboxes, Containers, Processes, Mounts, Namespaces, Addresses, Cgroups, Folders int
	// Of the daemon.
	Goroutines, Threads, Files int
	Memory                     int64 // PSS in bytes
}

// A daemon at rest is not the same at any moment: requests come and go, and the Go runtime keeps a thread that it
// needed once. It counts as grown when it has more than so many more, or memory by this factor.
const (
	moreGoroutines = 40
	moreThreads    = 10
	moreFiles      = 15
	moreMemory     = 1.3
)

// morePieces returns what there is of Pods beyond what there was.
func (h holdings) morePieces(now holdings) (all []string) {
	for _, c := range []struct {
		what        string
		before, now int
	}{
		{"sandboxes", h.Sandboxes, now.Sandboxes}, {"containers", h.Containers, now.Containers},
		{"shims and pauses", h.Processes, now.Processes}, {"mounts", h.Mounts, now.Mounts},
		{"network namespaces", h.Namespaces, now.Namespaces}, {"addresses", h.Addresses, now.Addresses},
		{"cgroups", h.Cgroups, now.Cgroups}, {"folders of Pods", h.Folders, now.Folders},
	} {
		if c.now > c.before {
			all = append(all, fmt.Sprintf("%d %s, not %d", c.now, c.what, c.before))
		}
	}
	return all
}

// grown returns what the node has more of than it had.
func (h holdings) grown(now holdings) []string {
	all := h.morePieces(now)
	for _, c := range []struct {
		what              string
		before, now, more int
	}{
		{"goroutines", h.Goroutines, now.Goroutines, moreGoroutines},
		{"threads", h.Threads, now.Threads, moreThreads},
		{"open files", h.Files, now.Files, moreFiles},
	} {
		if c.now > c.before+c.more {
			all = append(all, fmt.Sprintf("%d %s, not %d", c.now, c.what, c.before))
		}
	}
	if float64(now.Memory) > moreMemory*float64(h.Memory) {
		all = append(all, fmt.Sprintf("%.0f MB, not %.0f", float64(now.Memory)/1e6, float64(h.Memory)/1e6))
	}
	return all
}

// holds counts what the node has; the daemon's garbage is collected first.
func (s *soak) holds(ctx context.Context) (h holdings, err error) {
	n := s.node
	pid, err := n.pid(ctx)
	if err != nil {
		return h, err
	}
	rest := s.client.Discovery().RESTClient()
	if _, err := rest.Get().AbsPath("/debug/pprof/heap").Param("gc", "1").DoRaw(ctx); err != nil {
		return h, fmt.Errorf("have the daemon's garbage collected: %w", err)
	}
	metrics, err := rest.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return h, err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(n.paths.Root))
	if err != nil {
		return h, err
	}
	journal, err := os.ReadFile(filepath.Join(n.paths.Network, "leases"))
	if err != nil {
		return h, err
	}
	h = holdings{
		Sandboxes:  len(below(n.paths.Runtime, "sandboxes")) + len(below(n.paths.Run, "sandboxes")),
		Containers: len(below(n.paths.Runtime, "containers")) + len(below(n.paths.Run, "containers")),
		Processes:  len(family(n.paths.Root, pid)),
		Mounts:     len(mounts),
		Namespaces: len(below(n.paths.Run, "netns")),
		Addresses:  leases(journal),
		Cgroups:    len(cgroups(n.paths.ID)),
		Folders:    len(below(n.paths.Kubelet, "pods")) + len(below(n.paths.PodLogs)),
		Goroutines: gauge(metrics, "go_goroutines"),
		Threads:    len(below("/proc", strconv.Itoa(pid), "task")),
		Files:      len(below("/proc", strconv.Itoa(pid), "fd")),
		Memory:     pss(pid),
	}
	return h, nil
}

// below are the entries of a folder, none for one that is not there.
func below(path ...string) []os.DirEntry {
	entries, _ := os.ReadDir(filepath.Join(path...))
	return entries
}

// cgroups are the cgroups of Pods and below, in all hierarchies.
func cgroups(id string) (all []string) {
	for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		pods, _ := filepath.Glob(filepath.Join(top, id, "kubepods", "*", "pod*"))
		sure, _ := filepath.Glob(filepath.Join(top, id, "kubepods", "pod*"))
		all = append(append(all, pods...), sure...)
	}
	return all
}

// leases counts the sandboxes that have addresses by the journal of the network.
func leases(journal []byte) int {
	have := map[string]bool{}
	for line := range bytes.Lines(journal) {
		var e struct {
			Put  *struct{ ID string }
			Drop string
		}
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if e.Put != nil {
			have[e.Put.ID] = true
		}
		delete(have, e.Drop)
	}
	return len(have)
}

// gauge reads one figure without labels from a page of metrics.
func gauge(page []byte, name string) int {
	for line := range strings.Lines(string(page)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, _ := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return int(v)
		}
	}
	return 0
}
