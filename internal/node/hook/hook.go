// Package hook runs the postStart and preStop handlers of containers.
package hook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/node/handler"
)

const (
	// maxBody bounds what is read of an answer, in bytes: hooks do not look at it.
	maxBody = 10 << 10
	// maxHeader bounds the header of an answer, in bytes, where Go's own limit is 10 MiB.
	maxHeader = 1 << 20
	// maxOutput bounds the part of a command's output that is in the message, in bytes: as much as of a probe's.
	maxOutput = 10 << 10
)

// Runner runs lifecycle handlers.
type Runner struct {
	// Runtime runs exec handlers.
	Runtime internalapi.RuntimeService
	// Recorder is told when an HTTPS hook was answered in plain HTTP; nil for nobody.
	Recorder record.EventRecorder
	// Clock is the time; nil is the real one.
	Clock clock.Clock
}

// Run runs one handler to its end or that of ctx, which is its only bound. The message says what failed with
// what output: it is for the container's status and the log, while events name the hook only, so that no
// secret gets there.
func (r *Runner) Run(ctx context.Context, pod *v1.Pod, container *v1.Container, containerID, podIP string, h *v1.LifecycleHandler) (msg string, err error) {
	where := fmt.Sprintf("for Container %q in Pod %q failed - error", container.Name, fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID))
	switch {
	case h.Exec != nil:
		output, err := r.exec(ctx, containerID, h.Exec.Command)
		if err != nil {
			msg = fmt.Sprintf("Exec lifecycle hook (%v) %s: %v, message: %q", h.Exec.Command, where, err, output)
		}
		return msg, err
	case h.HTTPGet != nil:
		if err = r.get(ctx, pod, container, podIP, h.HTTPGet); err != nil {
			msg = fmt.Sprintf("HTTP lifecycle hook (%s) %s: %v", h.HTTPGet.Path, where, err)
		}
		return msg, err
	case h.TCPSocket != nil:
		if err = dial(ctx, container, podIP, h.TCPSocket); err != nil {
			msg = fmt.Sprintf("TCP lifecycle hook (%s) %s: %v", h.TCPSocket.Port.String(), where, err)
		}
		return msg, err
	case h.Sleep != nil:
		if err = r.sleep(ctx, h.Sleep.Seconds); err != nil {
			msg = fmt.Sprintf("Sleep lifecycle hook (%d) %s: %v", h.Sleep.Seconds, where, err)
		}
		return msg, err
	}
	err = fmt.Errorf("invalid handler: %v", h)
	return fmt.Sprintf("Cannot run handler: %v", err), err
}

func (r *Runner) exec(ctx context.Context, id string, command []string) (string, error) {
	stdout, stderr, err := r.Runtime.ExecSync(ctx, id, command, 0)
	output := append(stdout, stderr...)
	return string(output[:min(len(output), maxOutput)]), err
}

func (r *Runner) sleep(ctx context.Context, seconds int64) error {
	c := r.Clock
	if c == nil {
		c = clock.RealClock{}
	}
	timer := c.NewTimer(time.Duration(seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return errors.New("container terminated before sleep hook finished")
	}
}

// get sends a request; whatever the server answers is well. A server that speaks plain HTTP where HTTPS is
// meant is asked again in plain, without credentials.
func (r *Runner) get(ctx context.Context, pod *v1.Pod, container *v1.Container, podIP string, action *v1.HTTPGetAction) error {
	if action.Host == "" && podIP == "" {
		return errors.New("failed to find networking container: the pod has no address")
	}
	request, err := handler.Request(ctx, action, container, podIP, "lifecycle")
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DialContext: handler.Dialer().DialContext,
		// Certificates of Pods are their own affair, as with HTTPS probes.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,

		MaxResponseHeaderBytes: maxHeader,
	}
	err = send(transport, request)
	if !plainAnswer(err) {
		return err
	}
	plain := request.Clone(ctx)
	plain.URL.Scheme = "http"
	plain.Header.Del("Authorization")
	if send(transport, plain) != nil {
		return err
	}
	if r.Recorder != nil {
		r.Recorder.Eventf(pod, v1.EventTypeWarning, "LifecycleHTTPFallback", "request to HTTPS lifecycle hook %s got HTTP response, retry with HTTP succeeded", request.URL.Host)
	}
	return nil
}

func send(transport http.RoundTripper, request *http.Request) error {
	client := http.Client{Transport: transport}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxBody))
	return response.Body.Close()
}

func plainAnswer(err error) bool {
	var wrapped *url.Error
	return errors.As(err, &wrapped) && strings.Contains(wrapped.Err.Error(), "server gave HTTP response to HTTPS client")
}

// dial opens a connection and closes it.
func dial(ctx context.Context, container *v1.Container, podIP string, action *v1.TCPSocketAction) error {
	port, err := handler.Port(action.Port, container)
	if err != nil {
		return err
	}
	host := action.Host
	if host == "" {
		host = podIP
	}
	conn, err := handler.Dialer().DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return conn.Close()
}
