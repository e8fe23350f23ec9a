package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/util/flushwriter"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/node/logread"
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
	res, err := s.c.Runtime.ContainerStatus(r.Context(), id, false)
	if err != nil {
		http.Error(w, fmt.Sprintf("unable to retrieve container logs for %s: %v", id, err), http.StatusBadRequest)
		return
	}
	options, err := readOptions(o, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var ended <-chan struct{}
	if o.Follow {
		ended = s.containerEnd(ctx, id)
	}
	out := &counted{Writer: flushwriter.Wrap(w)}
	err = logread.Read(ctx, res.GetStatus().GetLogPath(), options, ended, out)
	if err == nil || ctx.Err() != nil {
		return
	}
	klog.FromContext(ctx).Info("Failed to read a container's log", "pod", klog.KObj(pod), "container", container, "err", err)
	if out.n > 0 {
		// The client must not take an error for a line of the log: the connection ends before the answer does.
		panic(http.ErrAbortHandler)
	}
	http.Error(w, fmt.Sprintf("failed to read the log of container %q: %v", container, err), http.StatusInternalServerError)
}

// counted counts what was written.
type counted struct {
	io.Writer
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n += int64(n)
	return n, err
}

// recheck is how long the server waits before it asks a runtime again that tells no events: the kubelet looks as often.
const recheck = time.Second

// containerEnd returns a channel that is closed when the container does not run any more, or is not there any more: it
// may be removed, with its Pod, as soon as it has ended.
func (s *Server) containerEnd(ctx context.Context, id string) <-chan struct{} {
	events, ended := make(chan *runtimeapi.ContainerEventResponse), make(chan struct{})
	look := make(chan struct{}, 1)
	poke := func() {
		select {
		case look <- struct{}{}:
		default:
		}
	}
	go func() {
		for ctx.Err() == nil {
			_ = s.c.Runtime.GetContainerEvents(ctx, events, func(runtimeapi.RuntimeService_GetContainerEventsClient) { poke() })
			poke() // some may have been missed
			timer := time.NewTimer(recheck)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
	}()
	go func() {
		for {
			select {
			case e := <-events:
				if e.GetContainerId() != id {
					continue
				}
			case <-look:
			case <-ctx.Done():
				return
			}
			if s.containerEnded(ctx, id) {
				close(ended)
				break
			}
		}
		for { // who tells events must not wait until the log is read
			select {
			case <-events:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ended
}

func (s *Server) containerEnded(ctx context.Context, id string) bool {
	res, err := s.c.Runtime.ContainerStatus(ctx, id, false)
	if err != nil {
		return status.Code(err) == codes.NotFound // else the runtime may be away for a while
	}
	return res.GetStatus().GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING
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

func readOptions(o corev1.PodLogOptions, now time.Time) (logread.Options, error) {
	out := logread.Options{TailLines: o.TailLines, LimitBytes: o.LimitBytes, Timestamps: o.Timestamps, Stdout: true, Stderr: true}
	if o.SinceSeconds != nil {
		out.Since = now.Add(-time.Duration(*o.SinceSeconds) * time.Second)
	}
	if o.SinceTime != nil {
		out.Since = o.SinceTime.Time
	}
	if o.Stream == nil {
		return out, nil
	}
	switch *o.Stream {
	case corev1.LogStreamAll:
	case corev1.LogStreamStdout:
		out.Stderr = false
	case corev1.LogStreamStderr:
		out.Stdout = false
	default:
		return out, fmt.Errorf("stream: %q must be one of %s, %s, %s", *o.Stream, corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr)
	}
	return out, nil
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
