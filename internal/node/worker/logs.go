package worker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"

	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/safeopen"
)

// removeLogs removes the logs of one attempt, those that were rotated away too. Logs that stay go with the
// Pod.
func (m *Manager) removeLogs(p *v1.Pod, name string, attempt int32) {
	if attempt < 0 {
		return
	}
	names, err := filepath.Glob(filepath.Join(m.cfg.Builder.PodLogDir(p), name, fmt.Sprintf("%d.log*", attempt)))
	if err != nil {
		return
	}
	for _, file := range names {
		_ = os.Remove(file)
	}
}

// unlinkLog removes the link to a container's log.
func (w *worker) unlinkLog(p *v1.Pod, name, id string) {
	if err := w.m.cfg.Builder.UnlinkLog(container.ContainerLabels(p, name), id); err != nil {
		w.log().Error(err, "Cannot remove the link to a container's log", "containerName", name)
	}
}

// endMessage is what the status says of a container's end: what the runtime said, and what the container wrote
// to its termination message file or, where the Pod asks for it and it failed, the end of its log.
func endMessage(ctx context.Context, s *runtimeapi.ContainerStatus, said string) string {
	notes := container.NotesOf(s.GetLabels(), s.GetAnnotations())
	fallBack := notes.TerminationMessagePolicy == v1.TerminationMessageFallbackToLogsOnError &&
		s.GetExitCode() != 0 && s.GetReason() != "ContainerCannotRun"
	words, empty := messageFile(s, notes.TerminationMessagePath)
	if empty && fallBack {
		words = lastLog(ctx, s.GetLogPath())
	}
	switch {
	case words == "":
		return said
	case said == "", s.GetReason() == "OOMKilled" && !empty: // what it wrote may be read by a program
		return words
	}
	return said + ": " + words
}

// messageFile reads the termination message file of a container. empty reports that it says nothing and may be
// stood in for.
func messageFile(s *runtimeapi.ContainerStatus, path string) (words string, empty bool) {
	if path == "" {
		return "", true
	}
	for _, mount := range s.GetMounts() {
		if mount.GetContainerPath() != path {
			continue
		}
		// The Pod may mount a volume of its own at the path, with anything in it.
		data, err := safeopen.Tail(pod.MaxMessage)(safeopen.File(mount.GetHostPath()))
		if os.IsNotExist(err) {
			return "", true
		}
		if err != nil {
			return fmt.Sprintf("Error on reading termination log %s: %v", mount.GetHostPath(), err), false
		}
		return string(data), len(data) == 0
	}
	return "", true
}

// lastLog reads the last lines of a container's log, at most 80 of them and 2 KiB.
func lastLog(ctx context.Context, path string) string {
	lines := int64(pod.MaxLogLines)
	end := &lastBytes{limit: pod.MaxLogMessage}
	if err := logs.ReadLogs(ctx, path, "", &logs.LogOptions{TailLines: &lines}, nil, end, end); err != nil {
		return fmt.Sprintf("Error on reading termination message from logs: %v", err)
	}
	return string(end.data)
}

// lastBytes keeps the last bytes that are written to it.
type lastBytes struct {
	limit int
	data  []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.data = append(l.data, p...)
	if over := len(l.data) - l.limit; over > 0 {
		l.data = append(l.data[:0], l.data[over:]...)
	}
	return len(p), nil
}
