package pod

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// podMap is a store of Pods by name.
type podMap map[string]*corev1.Pod

// Get implements podGetter.
func (m podMap) Get(_ context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	if pod, ok := m[name]; ok {
		return pod, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
}

// somePods are Pods that have something to reach.
func somePods() podMap {
	pods := podMap{}
	for name, spec := range map[string]corev1.PodSpec{
		"one":     {NodeName: "n1", Containers: []corev1.Container{{Name: "c"}}},
		"nowhere": {Containers: []corev1.Container{{Name: "c"}}},
		"lost":    {NodeName: "gone", Containers: []corev1.Container{{Name: "c"}}},
		"none":    {NodeName: "n1"},
		"two": {
			NodeName: "n1", Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}, InitContainers: []corev1.Container{{Name: "i"}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e"}}},
		},
	} {
		pods[name] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n"}, Spec: spec}
	}
	return pods
}

// fakeNode is the server of a node's agent. What it runs is made up: cat copies what it reads, exit ends
// with code 3.
type fakeNode struct {
	server *httptest.Server
	mu     sync.Mutex
	seen   string // the path and query last asked for
}

func newFakeNode(t *testing.T) *fakeNode {
	n := &fakeNode{}
	n.server = httptest.NewTLSServer(n)
	t.Cleanup(n.server.Close)
	return n
}

func (n *fakeNode) lastSeen() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen
}

// Node implements registry.NodeConnector.
func (n *fakeNode) Node(_ context.Context, name string) (*url.URL, http.RoundTripper, error) {
	if name != "n1" {
		return nil, nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
	}
	location, err := url.Parse(n.server.URL)
	return location, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: n.server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}, err
}

// ServeHTTP implements http.Handler.
func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	n.seen = r.URL.Path + "?" + r.URL.RawQuery
	n.mu.Unlock()
	part := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	const idle, create = time.Minute, 10 * time.Second
	switch part[0] {
	case "containerLogs":
		fmt.Fprintln(w, "a line")
	case "exec", "attach":
		o, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if part[0] == "exec" {
			remotecommand.ServeExec(w, r, n, part[2], "", part[3], r.URL.Query()["command"], o, idle, create, remotecommand.SupportedStreamingProtocols)
		} else {
			remotecommand.ServeAttach(w, r, n, part[2], "", part[3], o, idle, create, remotecommand.SupportedStreamingProtocols)
		}
	case "portForward":
		portforward.ServePortForward(w, r, n, part[2], "", &portforward.V4Options{}, idle, create, portforward.SupportedProtocols)
	default:
		http.NotFound(w, r)
	}
}

// ExecInContainer implements remotecommand.Executor.
func (n *fakeNode) ExecInContainer(_ context.Context, _, _, container string, cmd []string, in io.Reader, out, errs io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	switch cmd[0] {
	case "cat":
		_, err := io.Copy(out, in)
		return err
	case "size":
		size := <-resize
		_, err := fmt.Fprintf(out, "%dx%d", size.Width, size.Height)
		return err
	case "exit":
		fmt.Fprint(errs, "sorry")
		return utilexec.CodeExitError{Err: errors.New("exit status 3"), Code: 3}
	}
	_, err := fmt.Fprintf(out, "%s ran %q", container, cmd)
	return err
}

// AttachContainer implements remotecommand.Attacher.
func (n *fakeNode) AttachContainer(_ context.Context, _, _, _ string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	_, err := io.Copy(out, in)
	return err
}

// PortForward implements portforward.PortForwarder.
func (n *fakeNode) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	if port != 80 {
		return fmt.Errorf("nothing listens on port %d", port)
	}
	text := make([]byte, 5)
	if _, err := io.ReadFull(stream, text); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stream, "%d: %s", port, text)
	return err
}

// front is as much of an API server as the subresources need. The last part of a path names the one wanted.
type front struct {
	storages map[string]rest.Storage
	verbs    map[string]string // by HTTP method
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	part := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	name, sub := part[0], part[1]
	ctx := genericapirequest.WithUser(genericapirequest.WithNamespace(r.Context(), "n"), &user.DefaultInfo{Name: "somebody"})
	ctx = genericapirequest.WithRequestInfo(ctx, &genericapirequest.RequestInfo{IsResourceRequest: true, Verb: f.verbs[r.Method], Resource: "pods", Subresource: sub, Namespace: "n", Name: name})
	storage := f.storages[sub].(rest.Connecter)
	options, _, _ := storage.NewConnectOptions()
	responder := statusResponder{w}
	q := r.URL.Query()
	switch o := options.(type) {
	case *corev1.PodExecOptions:
		*o = corev1.PodExecOptions{Stdin: q.Has("stdin"), Stdout: q.Has("stdout"), Stderr: q.Has("stderr"), TTY: q.Has("tty"), Container: q.Get("container"), Command: q["command"]}
	case *corev1.PodAttachOptions:
		*o = corev1.PodAttachOptions{Stdin: q.Has("stdin"), Stdout: q.Has("stdout"), Stderr: q.Has("stderr"), TTY: q.Has("tty"), Container: q.Get("container")}
	case *corev1.PodProxyOptions:
		o.Path = strings.Join(part[2:], "/")
	}
	handler, err := storage.Connect(ctx, name, options, responder)
	if err != nil {
		responder.Error(err)
		return
	}
	handler.ServeHTTP(w, r.WithContext(ctx))
}

// statusResponder returns errors as an API server does.
type statusResponder struct{ w http.ResponseWriter }

// Object implements rest.Responder.
func (r statusResponder) Object(code int, obj runtime.Object) {
	r.w.Header().Set("Content-Type", "application/json")
	r.w.WriteHeader(code)
	_ = json.NewEncoder(r.w).Encode(obj)
}

// Error implements rest.Responder.
func (r statusResponder) Error(err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	s := status.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	r.Object(int(s.Code), &s)
}

// allowIf is an authorizer that allows one verb.
type allowIf string

// Authorize implements authorizer.UnconditionalAuthorizer.
func (verb allowIf) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetVerb() == string(verb) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "not you", nil
}

// newFront serves the streaming subresources of some Pods on one node.
func newFront(t *testing.T, auth authorizer.UnconditionalAuthorizer) (address string, node *fakeNode) {
	t.Helper()
	node = newFakeNode(t)
	s := streamer{reach: reach{pods: somePods(), nodes: node}, authorizer: auth}
	server := httptest.NewServer(&front{
		storages: map[string]rest.Storage{"exec": &execREST{s}, "attach": &attachREST{s}, "portforward": &portForwardREST{s}},
		verbs:    map[string]string{"GET": "get", "POST": "create"},
	})
	t.Cleanup(server.Close)
	return server.URL, node
}
