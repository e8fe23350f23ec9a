package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/utils/exec"

	"podium.dev/podium/internal/node/expand"
	"podium.dev/podium/internal/node/handler"
)

const (
	// maxAnswer bounds the part of an answer that is kept, in bytes: the kubelet's 10 KiB.
	maxAnswer = 10 << 10
	// maxHeader bounds the header of an HTTP or gRPC answer, in bytes. Go's own limits are 10 and 16 MiB, for each of
	// hundreds of probes at a time.
	maxHeader = 1 << 20
)

// attempts is how often a probe is tried that could not be carried out.
const attempts = 3

// killedStatus is the exit status of a command that SIGKILL has ended.
const killedStatus = 128 + 9

// result is what an answer says of the container; as text it is what events call it.
type result string

const (
	succeeded result = "success"
	warned    result = "warning"
	failed    result = "failure"
	unknown   result = "unknown"
)

// answer is one result. With an error it says nothing about the container.
type answer struct {
	result result
	text   string
	err    error
	// killed is set when the command was killed before it could answer.
	killed bool
}

func failure(format string, args ...any) answer {
	return answer{result: failed, text: cut(fmt.Sprintf(format, args...))}
}

// cut keeps the beginning of a text, which may hold what the container likes.
func cut(text string) string { return text[:min(len(text), maxAnswer)] }

// asker asks containers.
type asker struct {
	runtime      internalapi.RuntimeService
	http, plain2 *http.Transport
}

func newAsker(runtime internalapi.RuntimeService) asker {
	transport := func() *http.Transport {
		return &http.Transport{
			DialContext:         handler.Dialer().DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			// Each probe is a connection of its own: an old one may well be to what no longer answers new ones.
			DisableKeepAlives:  true,
			DisableCompression: true,

			MaxResponseHeaderBytes: maxHeader,
		}
	}
	a := asker{runtime: runtime, http: transport(), plain2: transport()}
	// Certificates of Pods are their own affair: a probe asks whether they answer.
	a.http.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	a.http.ForceAttemptHTTP2 = true
	a.plain2.Protocols = new(http.Protocols)
	a.plain2.Protocols.SetUnencryptedHTTP2(true)
	return a
}

// ask carries a probe out. A command that was killed is run again: it may have died with its container, which says
// nothing about the container's health, and is found to have ended then.
func (a asker) ask(ctx context.Context, spec *v1.Probe, c *v1.Container, t Target) answer {
	var last answer
	for range attempts {
		if last = a.once(ctx, spec, c, t); last.err == nil && !last.killed || ctx.Err() != nil {
			break
		}
	}
	return last
}

func (a asker) once(ctx context.Context, spec *v1.Probe, c *v1.Container, t Target) answer {
	timeout := timeoutOf(spec)
	switch {
	case spec.Exec != nil:
		return a.exec(ctx, spec.Exec, c, t, timeout)
	case spec.HTTPGet != nil:
		return a.get(ctx, spec.HTTPGet, c, t, timeout)
	case spec.TCPSocket != nil:
		return dial(ctx, spec.TCPSocket, c, t, timeout)
	case spec.GRPC != nil:
		return health(ctx, spec.GRPC, t, timeout)
	}
	return answer{result: unknown, err: fmt.Errorf("missing probe handler for container %s", c.Name)}
}

// exec runs a command in the container; the runtime kills it at the timeout.
func (a asker) exec(ctx context.Context, action *v1.ExecAction, c *v1.Container, t Target, timeout time.Duration) answer {
	stdout, stderr, err := a.runtime.ExecSync(ctx, t.ID, expandStatic(action.Command, c.Env), timeout)
	text := cut(string(append(stdout, stderr...)))
	var exit exec.ExitError
	switch {
	case err == nil:
		return answer{result: succeeded, text: text}
	case errors.As(err, &exit):
		if exit.ExitStatus() == 0 {
			return answer{result: succeeded, text: text}
		}
		return answer{result: failed, text: text, killed: exit.ExitStatus() == killedStatus}
	case timedOut(err):
		return failure("command timed out: %q timed out after %s", strings.Join(action.Command, " "), timeout)
	}
	return answer{result: unknown, err: err}
}

func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded ||
		strings.Contains(err.Error(), "command timed out")
}

// get asks by HTTP. A redirect to another host is not followed: it is success, told with a warning.
func (a asker) get(ctx context.Context, action *v1.HTTPGetAction, c *v1.Container, t Target, timeout time.Duration) answer {
	request, err := handler.Request(ctx, action, c, t.PodIP, "probe")
	if err != nil {
		return answer{result: unknown, err: err}
	}
	client := &http.Client{Transport: a.http, Timeout: timeout, CheckRedirect: sameHost}
	if action.Protocol != nil && *action.Protocol == v1.HTTPProtocolHTTP2 {
		client.Transport = a.plain2
	}
	response, err := client.Do(request)
	if err != nil {
		return failure("%s", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch code := response.StatusCode; {
	case err != nil:
		return answer{result: failed, err: err}
	case code < http.StatusOK || code >= http.StatusBadRequest:
		// Not the body: it may hold what is not for events.
		return failure("HTTP probe failed with statuscode: %d", code)
	case code >= http.StatusMultipleChoices:
		return answer{result: warned, text: "Probe terminated redirects, Response body: " + string(body)}
	}
	return answer{result: succeeded, text: string(body)}
}

func sameHost(request *http.Request, via []*http.Request) error {
	if request.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// dial opens a connection and closes it.
func dial(ctx context.Context, action *v1.TCPSocketAction, c *v1.Container, t Target, timeout time.Duration) answer {
	port, err := handler.Port(action.Port, c)
	if err != nil {
		return answer{result: unknown, err: err}
	}
	host := action.Host
	if host == "" {
		host = t.PodIP
	}
	dialer := handler.Dialer()
	dialer.Timeout = timeout
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return failure("%s", err)
	}
	_ = conn.Close()
	return answer{result: succeeded}
}

// expandStatic puts the container's variables that have plain values into a command.
func expandStatic(command []string, env []v1.EnvVar) []string {
	known := map[string]string{}
	for _, v := range env {
		known[v.Name] = v.Value
	}
	out := make([]string, len(command))
	for i, arg := range command {
		out[i] = expand.Expand(arg, func(name string) (string, bool) { value, ok := known[name]; return value, ok })
	}
	return out
}
