package pod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// executors are the ways clients stream: SPDY with POST, WebSocket with GET.
func executors(t *testing.T, address string) map[string]remotecommand.Executor {
	t.Helper()
	location, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{Host: location.Host}
	s, err := remotecommand.NewSPDYExecutor(config, "POST", location)
	if err != nil {
		t.Fatal(err)
	}
	w, err := remotecommand.NewWebSocketExecutor(config, "GET", address)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]remotecommand.Executor{"SPDY": s, "WebSocket": w}
}

// sizes is a terminal that has one size.
type sizes chan remotecommand.TerminalSize

// Next implements remotecommand.TerminalSizeQueue.
func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestExecAndAttach(t *testing.T) {
	address, node := newFront(t, allowIf("create"))
	for _, tc := range []struct {
		name, path      string
		in              string
		tty             bool
		seen, out, errs string
		code            int
	}{
		{name: "a command with words", path: "/one/exec?command=echo&command=a+b&stdout=true", seen: "/exec/n/one/c?command=echo&command=a+b&output=1", out: `c ran ["echo" "a b"]`},
		{name: "input and output", path: "/one/exec?command=cat&stdin=true&stdout=true&stderr=true", in: "hello", seen: "/exec/n/one/c?command=cat&error=1&input=1&output=1", out: "hello"},
		{name: "an exit code", path: "/two/exec?command=exit&stdout=true&stderr=true&container=b", seen: "/exec/n/two/b?command=exit&error=1&output=1", errs: "sorry", code: 3},
		{name: "an init container", path: "/two/exec?command=x&stdout=true&container=i", seen: "/exec/n/two/i?command=x&output=1", out: `i ran ["x"]`},
		{name: "a terminal", path: "/one/exec?command=size&stdin=true&stdout=true&tty=true", tty: true, seen: "/exec/n/one/c?command=size&input=1&output=1&tty=1", out: "80x25"},
		{name: "attached", path: "/two/attach?container=e&stdin=true&stdout=true", in: "hello", seen: "/attach/n/two/e?input=1&output=1", out: "hello"},
	} {
		for protocol, executor := range executors(t, address+tc.path) {
			t.Run(tc.name+"/"+protocol, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				var out, errs bytes.Buffer
				o := remotecommand.StreamOptions{Stdout: &out, Tty: tc.tty}
				if strings.Contains(tc.path, "stdin") {
					o.Stdin = strings.NewReader(tc.in)
				}
				if strings.Contains(tc.path, "stderr") {
					o.Stderr = &errs
				}
				if tc.tty {
					terminal := make(sizes, 1)
					terminal <- remotecommand.TerminalSize{Width: 80, Height: 25}
					defer close(terminal)
					o.TerminalSizeQueue = terminal
				}
				err := executor.StreamWithContext(ctx, o)
				var exit utilexec.ExitError
				switch {
				case tc.code == 0 && err != nil:
					t.Fatal(err)
				case tc.code != 0 && (!errors.As(err, &exit) || exit.ExitStatus() != tc.code):
					t.Errorf("ended with %v, want code %d", err, tc.code)
				}
				if seen := node.lastSeen(); seen != tc.seen {
					t.Errorf("the node was asked for %s, want %s", seen, tc.seen)
				}
				if out.String() != tc.out || errs.String() != tc.errs {
					t.Errorf("output %q, errors %q, want %q, %q", out.String(), errs.String(), tc.out, tc.errs)
				}
			})
		}
	}
}

func TestPortForward(t *testing.T) {
	address, _ := newFront(t, allowIf("create"))
	location, err := url.Parse(address + "/one/portforward")
	if err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{Host: location.Host}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(location, config)
	if err != nil {
		t.Fatal(err)
	}
	for protocol, dialer := range map[string]httpstream.Dialer{
		"SPDY":      spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", location),
		"WebSocket": tunnel,
	} {
		t.Run(protocol, func(t *testing.T) {
			stop, ready := make(chan struct{}), make(chan struct{})
			var complaints bytes.Buffer
			f, err := portforward.NewForStreaming(dialer, []string{"0:80", "0:81"}, stop, ready, io.Discard, &complaints)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- f.ForwardPorts() }()
			select {
			case <-ready:
			case err := <-ended:
				t.Fatalf("ended at once: %v", err)
			}
			ports, err := f.GetPorts()
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []string{"80: hello", ""} {
				conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[i].Local))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				got, _ := io.ReadAll(conn) // a refused one may end with a reset
				if string(got) != want {
					t.Errorf("port %d answers %q, want %q", ports[i].Remote, got, want)
				}
				conn.Close()
			}
			close(stop)
			<-ended
		})
	}
}

// answer asks for something and returns the code and the message of what comes back.
func answer(t *testing.T, method, address string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestStreamRefusals(t *testing.T) {
	allowed, _ := newFront(t, allowIf("create"))
	reader, _ := newFront(t, allowIf("get"))
	open, _ := newFront(t, nil)
	for _, tc := range []struct {
		method, address string
		code            int
		want            string
	}{
		{"POST", allowed + "/one/exec?command=x", 400, `"message":"Upgrade request required"`},
		{"POST", allowed + "/one/portforward", 400, `"message":"Upgrade request required"`},
		{"POST", allowed + "/nobody/exec", 404, `pods \"nobody\" not found`},
		{"POST", allowed + "/nobody/portforward", 404, `pods \"nobody\" not found`},
		{"POST", allowed + "/nowhere/exec", 400, `pod nowhere does not have a host assigned`},
		{"POST", allowed + "/nowhere/portforward", 400, `pod nowhere does not have a host assigned`},
		{"POST", allowed + "/lost/attach", 404, `nodes \"gone\" not found`},
		{"POST", allowed + "/lost/portforward", 404, `nodes \"gone\" not found`},
		{"POST", allowed + "/two/exec", 400, `a container name must be specified for pod two, choose one of: [i a b e]`},
		{"POST", allowed + "/two/exec?container=x", 400, `container x is not valid for pod two`},
		{"POST", reader + "/one/exec?command=x", 400, `"message":"Upgrade request required"`},
		{"GET", reader + "/one/exec?command=x", 403, `pods \"one\" is forbidden: not you`},
		{"GET", reader + "/one/attach", 403, `pods \"one\" is forbidden: not you`},
		{"GET", reader + "/one/portforward", 403, `pods \"one\" is forbidden: not you`},
		{"GET", open + "/one/exec", 500, `no authorizer available`},
	} {
		code, text := answer(t, tc.method, tc.address)
		if code != tc.code || !strings.Contains(text, tc.want) {
			t.Errorf("%s %s: %d %s, want %d %s", tc.method, tc.address, code, text, tc.code, tc.want)
		}
	}
}
