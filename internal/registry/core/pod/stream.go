package pod

import (
	"context"
	goerrors "errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	translate "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// streamer joins a client to a container: exec, attach, port-forward. Clients come with SPDY, which goes to
// the node as it is, or with a WebSocket, which becomes SPDY here.
type streamer struct {
	reach
	authorizer authorizer.UnconditionalAuthorizer
}

// Destroy implements rest.Storage; there is nothing to destroy.
func (s streamer) Destroy() {}

// ConnectMethods implements rest.Connecter. Browsers open WebSockets with GET.
func (s streamer) ConnectMethods() []string { return []string{"GET", "POST"} }

var (
	_ rest.Connecter = &execREST{}
	_ rest.Connecter = &attachREST{}
	_ rest.Connecter = &portForwardREST{}
)

type execREST struct{ streamer }

// New implements rest.Storage.
func (r *execREST) New() runtime.Object { return &corev1.PodExecOptions{} }

// NewConnectOptions implements rest.Connecter.
func (r *execREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodExecOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (r *execREST) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	o, ok := options.(*corev1.PodExecOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	streams := translate.Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY}
	query := streamQuery(streams)
	for _, word := range o.Command {
		query.Add("command", word)
	}
	return r.toContainer(ctx, "exec", name, o.Container, streams, query, responder)
}

type attachREST struct{ streamer }

// New implements rest.Storage.
func (r *attachREST) New() runtime.Object { return &corev1.PodAttachOptions{} }

// NewConnectOptions implements rest.Connecter.
func (r *attachREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodAttachOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (r *attachREST) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	o, ok := options.(*corev1.PodAttachOptions)
	if !ok {
		return nil, fmt.Errorf("Invalid options object: %#v", options) //nolint:staticcheck // Kubernetes' words
	}
	streams := translate.Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY}
	return r.toContainer(ctx, "attach", name, o.Container, streams, streamQuery(streams), responder)
}

type portForwardREST struct{ streamer }

// New implements rest.Storage.
func (r *portForwardREST) New() runtime.Object { return &corev1.PodPortForwardOptions{} }

// NewConnectOptions implements rest.Connecter.
func (r *portForwardREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodPortForwardOptions{}, false, ""
}

// Connect implements rest.Connecter. A WebSocket is a tunnel here: SPDY goes through it.
func (r *portForwardREST) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	if err := r.mayCreate(ctx); err != nil {
		return nil, err
	}
	o, ok := options.(*corev1.PodPortForwardOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	pod, err := r.onNode(ctx, name)
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	if len(o.Ports) > 0 {
		ports := make([]string, len(o.Ports))
		for i, port := range o.Ports {
			ports[i] = strconv.FormatInt(int64(port), 10)
		}
		query.Set(corev1.PortHeader, strings.Join(ports, ","))
	}
	location, transport, err := r.at(ctx, pod.Spec.NodeName, fmt.Sprintf("/portForward/%s/%s", pod.Namespace, pod.Name), query)
	if err != nil {
		return nil, err
	}
	spdy := upgrading(location, transport, responder)
	return translate.NewTranslatingHandler(spdy, translate.NewTunnelingHandler(spdy), wsstream.IsWebSocketRequestWithTunnelingProtocol), nil
}

// toContainer joins a client to a container by way of a path of its node's server: exec or attach.
func (s streamer) toContainer(ctx context.Context, verb, name, wanted string, streams translate.Options, query url.Values, responder rest.Responder) (http.Handler, error) {
	if err := s.mayCreate(ctx); err != nil {
		return nil, err
	}
	pod, err := getPod(ctx, s.pods, name)
	if err != nil {
		return nil, err
	}
	chosen, err := container(pod, wanted)
	if err != nil {
		return nil, err
	}
	if err := hasNode(pod); err != nil {
		return nil, err
	}
	location, transport, err := s.at(ctx, pod.Spec.NodeName, fmt.Sprintf("/%s/%s/%s/%s", verb, pod.Namespace, pod.Name, chosen), query)
	if err != nil {
		return nil, err
	}
	const unlimited = 0
	translator := translate.NewStreamTranslatorHandler(location, transport, unlimited, streams)
	return translate.NewTranslatingHandler(upgrading(location, transport, responder), translator, wsstream.IsWebSocketRequestWithStreamCloseProtocol), nil
}

// onNode returns a Pod that has a node.
func (s streamer) onNode(ctx context.Context, name string) (*corev1.Pod, error) {
	pod, err := getPod(ctx, s.pods, name)
	if err != nil {
		return nil, err
	}
	return pod, hasNode(pod)
}

func hasNode(pod *corev1.Pod) error {
	if pod.Spec.NodeName == "" {
		return errors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	return nil
}

// upgrading passes a request on to the node, which must turn it into a stream.
func upgrading(location *url.URL, transport http.RoundTripper, responder rest.Responder) http.Handler {
	const wrapTransport, upgradeRequired = false, true
	return proxy.NewUpgradeAwareHandler(location, transport, wrapTransport, upgradeRequired, proxy.NewErrorResponder(responder))
}

// streamQuery names the streams that the node is to open.
func streamQuery(o translate.Options) url.Values {
	q := url.Values{}
	for _, stream := range []struct {
		name string
		open bool
	}{{corev1.ExecStdinParam, o.Stdin}, {corev1.ExecStdoutParam, o.Stdout}, {corev1.ExecStderrParam, o.Stderr}, {corev1.ExecTTYParam, o.Tty}} {
		if stream.open {
			q.Set(stream.name, "1")
		}
	}
	return q
}

// mayCreate wants the user to have the right to create what is asked for. A WebSocket is opened with GET, and
// the right to read must not be enough to run a command.
func (s streamer) mayCreate(ctx context.Context) error {
	info, ok := genericapirequest.RequestInfoFrom(ctx)
	if !ok {
		return errors.NewInternalError(goerrors.New("no request info in context"))
	}
	if info.Verb == "create" {
		return nil
	}
	if s.authorizer == nil {
		return errors.NewInternalError(goerrors.New("no authorizer available"))
	}
	attributes, err := filters.GetAuthorizerAttributes(ctx)
	if err != nil {
		return errors.NewInternalError(fmt.Errorf("error building authorizer attributes: %w", err))
	}
	decision, reason, err := s.authorizer.Authorize(ctx, asCreate{attributes})
	if err != nil {
		return err
	}
	if decision != authorizer.DecisionAllow {
		return errors.NewForbidden(schema.GroupResource{Group: info.APIGroup, Resource: info.Resource}, info.Name, goerrors.New(reason))
	}
	return nil
}

// asCreate is a request as if its verb were create.
type asCreate struct{ authorizer.Attributes }

// GetVerb implements authorizer.Attributes.
func (asCreate) GetVerb() string { return "create" }
