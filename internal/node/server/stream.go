package server

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// runningContainer finds the Pod and the ID of the running container that the request's path names, or
// answers the request with the reason why not.
func (s *Server) runningContainer(w http.ResponseWriter, r *http.Request) (id string, ok bool) {
	pod, ok := s.pod(w, r)
	if !ok {
		return "", false
	}
	name := r.PathValue("container")
	st := containerStatus(pod, name)
	if st == nil || st.State.Running == nil || st.ContainerID == "" {
		if st != nil && st.State.Terminated != nil {
			http.Error(w, fmt.Sprintf("cannot exec in a stopped container: container %q of pod %q has ended", name, pod.Name), http.StatusBadRequest)
			return "", false
		}
		http.Error(w, fmt.Sprintf("container not found (%q)", name), http.StatusInternalServerError)
		return "", false
	}
	return bareID(st.ContainerID), true
}

func (s *Server) pod(w http.ResponseWriter, r *http.Request) (*corev1.Pod, bool) {
	pod, ok := s.c.Pods.Pod(r.PathValue("namespace"), r.PathValue("pod"))
	if !ok || r.PathValue("uid") != "" && r.PathValue("uid") != string(pod.UID) {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return nil, false
	}
	return pod, true
}

// streamOf finds the running container and the streams that the request asks for, or answers the request.
func (s *Server) streamOf(w http.ResponseWriter, r *http.Request) (id string, o *remotecommand.Options, ok bool) {
	o, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return "", nil, false
	}
	id, ok = s.runningContainer(w, r)
	return id, o, ok
}

func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	id, o, ok := s.streamOf(w, r)
	if !ok {
		return
	}
	resp, err := s.c.Runtime.Exec(r.Context(), &runtimeapi.ExecRequest{
		ContainerId: id, Cmd: r.URL.Query()["command"], Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY,
	})
	s.stream(w, r, resp.GetUrl(), err)
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	id, o, ok := s.streamOf(w, r)
	if !ok {
		return
	}
	resp, err := s.c.Runtime.Attach(r.Context(), &runtimeapi.AttachRequest{
		ContainerId: id, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY,
	})
	s.stream(w, r, resp.GetUrl(), err)
}

func (s *Server) portForward(w http.ResponseWriter, r *http.Request) {
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pod, ok := s.pod(w, r)
	if !ok {
		return
	}
	sandboxes, err := s.c.Runtime.ListPodSandbox(r.Context(), &runtimeapi.PodSandboxFilter{
		LabelSelector: map[string]string{"io.kubernetes.pod.uid": string(pod.UID)},
		State:         &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
	})
	if err != nil || len(sandboxes) == 0 {
		http.Error(w, fmt.Sprintf("unable to find a running sandbox of pod %s/%s", pod.Namespace, pod.Name), http.StatusInternalServerError)
		return
	}
	resp, err := s.c.Runtime.PortForward(r.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: sandboxes[0].Id, Port: options.Ports})
	s.stream(w, r, resp.GetUrl(), err)
}

// stream passes the request on to the runtime's streaming server.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, at string, err error) {
	if err != nil {
		http.Error(w, err.Error(), httpStatus(err))
		return
	}
	u, err := url.Parse(at)
	if err != nil {
		http.Error(w, fmt.Sprintf("the runtime's streaming address %q: %v", at, err), http.StatusInternalServerError)
		return
	}
	proxy.NewUpgradeAwareHandler(u, nil, false, true, responder{}).ServeHTTP(w, r)
}

type responder struct{}

// Error implements proxy.ErrorResponder.
func (responder) Error(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

func httpStatus(err error) int {
	switch status.Code(err) {
	case codes.NotFound:
		return http.StatusNotFound
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.InvalidArgument:
		return http.StatusBadRequest
	default:
		return http.StatusInternalServerError
	}
}

// runTimeout is how long /run waits for a command.
const runTimeout = 2 * time.Minute

// run runs a command without streams and returns what it printed.
func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	id, ok := s.runningContainer(w, r)
	if !ok {
		return
	}
	stdout, stderr, err := s.c.Runtime.ExecSync(r.Context(), id, strings.Fields(r.URL.Query().Get("cmd")), runTimeout)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(bytes.Join([][]byte{stdout, stderr}, nil))
}
