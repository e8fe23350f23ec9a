// Package oom tells of the processes that the kernel has killed for memory: those of the whole machine, which the
// kernel's log tells of, and those of containers, which the runtime hears of.
package oom

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/podutil"
)

// Kill is what the runtime tells of a container that processes were killed of.
type Kill struct {
	PodUID    types.UID
	Container string
	// Message says so, with the limit and the most that was used.
	Message string
}

// Pods is where the Pod of a kill is looked up.
type Pods interface {
	Pod(uid types.UID) (*corev1.Pod, bool)
}

// WatchContainers records an event of the Pod for each kill until ctx ends.
func WatchContainers(ctx context.Context, kills <-chan Kill, pods Pods, recorder record.EventRecorder) {
	for {
		select {
		case <-ctx.Done():
			return
		case k := <-kills:
			if pod, ok := pods.Pod(k.PodUID); ok {
				recorder.Event(podutil.ContainerReference(pod, k.Container), corev1.EventTypeWarning, "OOMKilled", k.Message)
			}
		}
	}
}

// kernelLog is where the kernel's messages are read (the kernel's ABI/testing/dev-kmsg).
const kernelLog = "/dev/kmsg"

// maxRecord is above the longest record of the kernel's log.
const maxRecord = 8 << 10

// WatchMachine records an event of the node for each process that is killed because the whole machine is out of memory,
// from now on until ctx ends. Where the kernel's log may not be read it says so and does nothing.
func WatchMachine(ctx context.Context, node func() *corev1.ObjectReference, recorder record.EventRecorder) {
	log := klog.FromContext(ctx)
	f, err := os.OpenFile(kernelLog, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		_, err = f.Seek(0, 2)
	}
	if err != nil {
		log.Info("The kernel's log cannot be read, so no event will tell that the machine is out of memory", "err", err)
		return
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	buf := make([]byte, maxRecord)
	for {
		n, err := f.Read(buf)
		switch {
		case errors.Is(err, unix.EPIPE): // records were overwritten before they were read
			continue
		case err != nil:
			if ctx.Err() == nil {
				log.Error(err, "Could not read the kernel's log, so no event will tell that the machine is out of memory")
			}
			return
		}
		if v, ok := parse(string(buf[:n])); ok {
			recorder.Eventf(node(), corev1.EventTypeWarning, "SystemOOM", "%s", v.message())
		}
	}
}

// victim is a process that was killed.
type victim struct {
	name string
	pid  int
}

func (v victim) message() string {
	return fmt.Sprintf("System OOM encountered, victim process: %s, pid: %d", v.name, v.pid)
}

// parse reads a record of the kernel's log, "level,sequence,time,flags;text", that says that a process was killed
// because the machine, and not a cgroup, is out of memory. Levels from 8 on are of records that a program has written.
//
//	Out of memory: Killed process 123 (name) total-vm:…
//	Out of memory (oom_kill_allocating_task): Killed process 123 (name) …
func parse(record string) (victim, bool) {
	head, text, _ := strings.Cut(record, ";")
	level, _, _ := strings.Cut(head, ",")
	if n, err := strconv.Atoi(level); err != nil || n >= 8 || !strings.HasPrefix(text, "Out of memory") {
		return victim{}, false
	}
	_, rest, ok := strings.Cut(text, ": Killed process ")
	if !ok {
		return victim{}, false
	}
	number, rest, _ := strings.Cut(rest, " (")
	pid, err := strconv.Atoi(number)
	name, _, ok := strings.Cut(rest, ") ")
	return victim{name, pid}, err == nil && ok
}
