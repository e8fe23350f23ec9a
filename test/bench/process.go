package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/pidfd"
)

// waitExit waits until a process has ended.
func waitExit(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has ended
	}
	defer unix.Close(fd)
	for ended := false; !ended && err == nil; {
		ended, err = pidfd.Await(fd, time.Minute)
	}
}

// pss returns the proportional set size of a process in bytes.
func pss(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// processorTime returns the processor time that a process has used so far.
func processorTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b)[strings.LastIndex(string(b), ")")+1:])
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * time.Second / 100
}

// wakeups returns how often the threads of a process gave up the processor to wait.
func wakeups(pid int) int64 {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	var sum int64
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(b), "\n") {
			if v, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
				sum += n
			}
		}
	}
	return sum
}

// family returns the processes whose command line contains the root, except the daemon: shims and pauses.
func family(root string, daemon int) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	parents := map[int]int{}
	var pids []int
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		cmdline, _ := os.ReadFile(filepath.Join(d, "cmdline"))
		stat, err := os.ReadFile(filepath.Join(d, "stat"))
		if err != nil {
			continue
		}
		f := strings.Fields(string(stat)[strings.LastIndex(string(stat), ")")+1:])
		parents[pid], _ = strconv.Atoi(f[1])
		if pid != daemon && strings.Contains(string(cmdline), root) {
			pids = append(pids, pid)
		}
	}
	shims := map[int]bool{}
	for _, p := range pids {
		shims[p] = true
	}
	for pid, parent := range parents {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if shims[parent] && !shims[pid] && strings.Contains(string(comm), "pause") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func measureIdle(ctx context.Context, o options, n *node, r *results) error {
	pid, err := n.pid(ctx)
	if err != nil || o.idle == 0 {
		return err
	}
	if err := wait(ctx, 10*time.Second); err != nil { // the work of the start is over by then
		return err
	}
	cpu, woken, began := processorTime(pid), wakeups(pid), time.Now()
	if err := wait(ctx, time.Duration(o.idle)*time.Second); err != nil {
		return err
	}
	span := time.Since(began)
	r.set("idle: processor", fmt.Sprintf("%.2f %% of a core", 100*(processorTime(pid)-cpu).Seconds()/span.Seconds()))
	r.set("idle: wake-ups", fmt.Sprintf("%.0f a second", float64(wakeups(pid)-woken)/span.Seconds()))
	r.bytes("idle: memory (PSS of everything)", pss(pid))
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// measureMany takes the memory of the node with many Pods, and the cost per Pod.
func measureMany(ctx context.Context, o options, n *node, r *results) error {
	if o.many == 0 {
		return nil
	}
	c, err := connect(ctx, n.kubeconfig(), o.image)
	if err != nil {
		return err
	}
	defer c.close()
	pid, err := n.pid(ctx)
	if err != nil {
		return err
	}
	before := pss(pid)
	for at := 0; at < o.many; at += 50 {
		if _, err := c.burst(ctx, fmt.Sprintf("many%d", at), min(50, o.many-at)); err != nil {
			return err
		}
	}
	var outside int64
	for _, p := range family(n.paths.Root, pid) {
		outside += pss(p)
	}
	count := int64(o.many)
	r.bytes(fmt.Sprintf("shim and pause of a Pod (PSS, %d Pods)", o.many), outside/count)
	r.bytes(fmt.Sprintf("growth of the daemon a Pod (PSS, %d Pods)", o.many), (pss(pid)-before)/count)
	return nil
}
