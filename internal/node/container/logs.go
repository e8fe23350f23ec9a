package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PodLogDir is the folder of a Pod's logs, NAMESPACE_NAME_UID.
func (b *Builder) PodLogDir(pod *v1.Pod) string {
	root := b.cfg.Paths.PodLogs
	if b.cfg.Kubelet.PodLogsDir != "" {
		root = b.cfg.Kubelet.PodLogsDir
	}
	return filepath.Join(root, pod.Namespace+"_"+pod.Name+"_"+string(pod.UID))
}

// LogPath is the log of a container's start, below the folder of its Pod's logs.
func LogPath(container string, attempt uint32) string {
	return filepath.Join(container, fmt.Sprintf("%d.log", attempt))
}

var attemptLog = regexp.MustCompile(`^(\d+)\.log(\..*)?$`)

// NextAttempt is the count of starts that the logs of a container tell of: where a new one goes on when the
// runtime has forgotten those before.
func (b *Builder) NextAttempt(pod *v1.Pod, container string) uint32 {
	entries, err := os.ReadDir(filepath.Join(b.PodLogDir(pod), container))
	if err != nil {
		return 0
	}
	next := uint64(0)
	for _, e := range entries {
		if m := attemptLog.FindStringSubmatch(e.Name()); m != nil && !e.IsDir() {
			if n, err := strconv.ParseUint(m[1], 10, 31); err == nil {
				next = max(next, n+1)
			}
		}
	}
	return uint32(next)
}

// maxFileName is what file systems take.
const maxFileName = 255

// logLink is where log shippers look for a container's log.
func (b *Builder) logLink(pod PodRef, container, id string) string {
	name := fmt.Sprintf("%s_%s_%s-%s", pod.Name, pod.Namespace, container, id)
	return filepath.Join(b.cfg.Paths.ContainerLogs, name[:min(len(name), maxFileName-len(".log"))]+".log")
}

// LinkLog links a started container's log into the folder of all containers' logs.
func (b *Builder) LinkLog(sandbox *runtimeapi.PodSandboxConfig, config *runtimeapi.ContainerConfig, id string) error {
	log := filepath.Join(sandbox.LogDirectory, config.LogPath)
	link := b.logLink(PodOf(config.Labels), config.Metadata.Name, id)
	err := os.Symlink(log, link)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(b.cfg.Paths.ContainerLogs, 0o755); err == nil {
			err = os.Symlink(log, link)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("link container log %s: %w", log, err)
	}
	return nil
}

// UnlinkLog removes the link of a container that is removed; the labels are the container's.
func (b *Builder) UnlinkLog(labels map[string]string, id string) error {
	err := os.Remove(b.logLink(PodOf(labels), labels[LabelContainerName], id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// SweepLogLinks removes the links whose logs are gone.
func (b *Builder) SweepLogLinks() error {
	links, err := filepath.Glob(filepath.Join(b.cfg.Paths.ContainerLogs, "*.log"))
	if err != nil {
		return err
	}
	var failed []error
	for _, link := range links {
		if _, err := os.Stat(link); errors.Is(err, fs.ErrNotExist) {
			if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}
