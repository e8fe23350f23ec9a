package server

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/util/flushwriter"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/klog/v2"
)

func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request) {
	name, container := r.PathValue("pod"), r.PathValue("container")
	o, err := logOptions(r.URL.Query())
	if err != nil {
		http.Error(w, "Unable to decode query: "+err.Error(), http.StatusBadRequest)
		return
	}
	pod, ok := s.c.Pods.Pod(r.PathValue("namespace"), name)
	if !ok {
		http.Error(w, fmt.Sprintf("pod %q does not exist", name), http.StatusNotFound)
		return
	}
	if !hasContainer(pod, container) {
		http.Error(w, fmt.Sprintf("container %q not found in pod %q", container, name), http.StatusNotFound)
		return
	}
	id, err := logContainerID(pod, container, o.Previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	status, err := s.c.Runtime.ContainerStatus(r.Context(), id, false)
	if err != nil {
		http.Error(w, fmt.Sprintf("unable to retrieve container logs for %s: %v", id, err), http.StatusBadRequest)
		return
	}
	out := flushwriter.Wrap(w)
	stdout, stderr, err := streams(o.Stream, out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := logs.ReadLogs(r.Context(), status.Status.LogPath, id, readOptions(o, time.Now()), s.c.Runtime, stdout, stderr); err != nil && r.Context().Err() == nil {
		// The header may be out already, so the text is the only way to tell.
		klog.FromContext(r.Context()).Info("Could not read a container's log", "pod", klog.KObj(pod), "container", container, "err", err)
		http.Error(w, fmt.Sprintf("failed to read the log of container %q: %v", container, err), http.StatusInternalServerError)
	}
}

// logOptions reads the options from a request's query, where they have their names of PodLogOptions.
func logOptions(query url.Values) (o corev1.PodLogOptions, err error) {
	if tail := query.Get("tail"); tail == "all" {
		query.Del("tailLines")
	} else if tail != "" {
		query.Set("tailLines", tail)
	}
	for name, into := range map[string]*bool{"follow": &o.Follow, "previous": &o.Previous, "timestamps": &o.Timestamps} {
		if text := query.Get(name); text != "" {
			if *into, err = strconv.ParseBool(text); err != nil {
				return o, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for name, into := range map[string]**int64{"sinceSeconds": &o.SinceSeconds, "tailLines": &o.TailLines, "limitBytes": &o.LimitBytes} {
		if text := query.Get(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return o, fmt.Errorf("%s: %w", name, err)
			}
			*into = &n
		}
	}
	if text := query.Get("sinceTime"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return o, fmt.Errorf("sinceTime: %w", err)
		}
		o.SinceTime = &metav1.Time{Time: at}
	}
	if text := query.Get("stream"); text != "" {
		o.Stream = &text
	}
	return o, nil
}

func streams(which *string, out io.Writer) (stdout, stderr io.Writer, err error) {
	if which == nil {
		return out, out, nil
	}
	switch *which {
	case corev1.LogStreamAll:
		return out, out, nil
	case corev1.LogStreamStdout:
		return out, nil, nil
	case corev1.LogStreamStderr:
		return nil, out, nil
	default:
		return nil, nil, fmt.Errorf("invalid stream type %q", *which)
	}
}

func readOptions(o corev1.PodLogOptions, now time.Time) *logs.LogOptions {
	out := &logs.LogOptions{TailLines: o.TailLines, LimitBytes: o.LimitBytes, Follow: o.Follow, Timestamp: o.Timestamps}
	if o.SinceSeconds != nil {
		out.Since = now.Add(-time.Duration(*o.SinceSeconds) * time.Second)
	}
	if o.SinceTime != nil {
		out.Since = o.SinceTime.Time
	}
	return out
}

func hasContainer(pod *corev1.Pod, name string) bool {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return true
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}

// logContainerID chooses, from the Pod's status, the container whose log is meant, or says in the kubelet's
// words why there is none.
func logContainerID(pod *corev1.Pod, container string, previous bool) (string, error) {
	s := containerStatus(pod, container)
	if s == nil {
		return "", fmt.Errorf("container %q in pod %q is not available", container, pod.Name)
	}
	last := s.LastTerminationState.Terminated
	lastID := ""
	if last != nil {
		lastID = last.ContainerID
	}
	id := ""
	switch {
	case previous:
		if lastID == "" {
			return "", fmt.Errorf("previous terminated container %q in pod %q not found", container, pod.Name)
		}
		id = lastID
	case s.State.Running != nil:
		id = s.ContainerID
	case s.State.Terminated != nil:
		if id = s.State.Terminated.ContainerID; id == "" {
			id = lastID
		}
	case last != nil:
		id = lastID
	case s.State.Waiting != nil:
		return "", fmt.Errorf("container %q in pod %q is waiting to start: %s", container, pod.Name, waitingWords(s.State.Waiting.Reason))
	default:
		return "", fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", container, pod.Name)
	}
	if id == "" {
		return "", fmt.Errorf("container %q in pod %q is terminated", container, pod.Name)
	}
	return bareID(id), nil
}

func waitingWords(reason string) string {
	switch reason {
	case "ErrImagePull":
		return "image can't be pulled"
	case "ImagePullBackOff":
		return "trying and failing to pull image"
	default:
		return reason
	}
}

func containerStatus(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// bareID takes the runtime's name off an ID of the form RUNTIME://ID.
func bareID(id string) string {
	if _, bare, ok := strings.Cut(id, "://"); ok {
		return bare
	}
	return id
}
