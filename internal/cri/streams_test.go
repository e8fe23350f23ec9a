package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	criclient "k8s.io/cri-client/pkg"
	remotecommandserver "k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"podium.dev/podium/internal/shim"
)

func TestExecSync(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("exec")
	sb := w.runPod(pod)
	id := w.run(sb, pod, w.sh("main", "sleep 1000"))
	run := func(timeout time.Duration, cmd ...string) (string, string, error) {
		out, errs, err := w.api.ExecSync(t.Context(), id, cmd, timeout)
		return string(out), string(errs), err
	}
	if out, errs, err := run(0, "sh", "-c", "echo out; echo err >&2; echo $FROM; pwd"); err != nil || out != "out\nimage\n/work\n" || errs != "err\n" {
		t.Errorf("exec = %q, %q, %v", out, errs, err)
	}
	_, errs, err := run(time.Minute, "sh", "-c", "echo why >&2; exit 42")
	var code utilexec.ExitError
	if !errors.As(err, &code) || code.ExitStatus() != 42 || errs != "why\n" {
		t.Errorf("exit code: %v, %q", err, errs)
	}
	begin := time.Now()
	if _, _, err := run(300*time.Millisecond, "sh", "-c", "sleep 1000 & sleep 1001"); !errors.Is(err, criclient.ErrCommandTimedOut) {
		t.Errorf("timeout: %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("a timeout of 300 ms took %v", took)
	}
	w.eventually("nothing of the timed out command is left", func() bool {
		out, _, err := run(time.Minute, "ps")
		return err == nil && !strings.Contains(out, "sleep 1001")
	})
	if _, _, err := run(time.Minute, "nosuch"); err == nil || !strings.Contains(err.Error(), `exec: "nosuch": executable file not found in $PATH`) {
		t.Errorf("no such command: %v", err)
	}
	// One that leaves a process behind which holds its output ends all the same.
	if out, _, err := run(time.Minute, "sh", "-c", "echo fast; sleep 1000 & exit 0"); err != nil || out != "fast\n" {
		t.Errorf("exec = %q, %v", out, err)
	}
	// At the time-out it fails, whoever holds the output open, in silence or not.
	for _, child := range []string{"sleep 1000", "yes", "sh -c 'while true; do echo x; sleep 0.1; done'"} {
		begin := time.Now()
		if _, _, err := run(time.Second, "sh", "-c", child+" & exit 0"); !errors.Is(err, criclient.ErrCommandTimedOut) {
			t.Errorf("a child that holds the output (%s): %v", child, err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("a child that holds the output (%s): a time-out of 1 s took %v", child, took)
		}
	}
	// Without a time-out, what another process goes on writing is waited for a while only.
	if out, _, err := run(0, "sh", "-c", "echo first; yes & exit 0"); err != nil || !strings.HasPrefix(out, "first\n") {
		t.Errorf("a child that goes on writing: %d bytes, %v", len(out), err)
	}
	if out, _, err := run(time.Minute, "head", "-c", "3000000", "/dev/zero"); err != nil || len(out) != maxLocalOutput {
		t.Errorf("much output for the node agent: %d bytes, %v", len(out), err)
	}
	if res, err := w.r.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"head", "-c", "3000000", "/dev/zero"}}); err != nil || len(res.Stdout) != 3000000 {
		t.Errorf("much output for a client of the socket: %d bytes, %v", len(res.GetStdout()), err)
	}
	if used := w.r.syncRoom.used.Load(); used != 0 {
		t.Errorf("%d bytes of the room for output were not given back", used)
	}
	if err := w.api.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(0, "true"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("exec in a stopped container: %v", err)
	}
}

// nopCloser makes a writer one that can be closed.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func TestExecStreams(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("streams")
	sb := w.runPod(pod)
	id := w.run(sb, pod, w.sh("main", "sleep 1000"))
	s := w.r.Streams()
	var out, errs bytes.Buffer
	err := s.Exec(t.Context(), id, []string{"sh", "-c", "cat; echo err >&2; exit 3"}, strings.NewReader("in\n"), nopCloser{&out}, nopCloser{&errs}, false, nil)
	var code utilexec.ExitError
	if !errors.As(err, &code) || code.ExitStatus() != 3 || out.String() != "in\n" || errs.String() != "err\n" {
		t.Errorf("exec = %q, %q, %v", out.String(), errs.String(), err)
	}
	out.Reset()
	sizes := make(chan remotecommandserver.TerminalSize, 1)
	sizes <- remotecommandserver.TerminalSize{Width: 99, Height: 33}
	in, typist := io.Pipe()
	go func() {
		_, _ = typist.Write([]byte("while [ \"$(stty size)\" != '33 99' ]; do sleep 0.01; done; echo size ok; exit 7\n"))
	}()
	err = s.Exec(t.Context(), id, []string{"sh"}, in, nopCloser{&out}, nil, true, sizes)
	if !errors.As(err, &code) || code.ExitStatus() != 7 || !strings.Contains(out.String(), "size ok\r\n") {
		t.Errorf("terminal = %q, %v", out.String(), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Exec(ctx, id, []string{"sleep", "1002"}, nil, nil, nil, false, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled exec: %v", err)
	}
	ctx, leave := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer leave()
	if err := s.Exec(ctx, id, []string{"sh", "-c", "yes & exit 0"}, nil, nopCloser{io.Discard}, nil, false, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("exec that leaves a process behind which goes on writing: %v", err)
	}
	if err := s.Exec(t.Context(), id, []string{"sh", "-c", "yes & exit 0"}, nil, nil, nil, false, nil); err != nil {
		t.Errorf("the same for a client that wants no output: %v", err)
	}
	w.eventually("a cancelled command is killed", func() bool {
		out, _, err := w.api.ExecSync(t.Context(), id, []string{"ps"}, time.Minute)
		return err == nil && !strings.Contains(string(out), "sleep 1002")
	})
}

// remote runs a stream over HTTP, as the node agent and crictl do.
func remote(t *testing.T, address string, o remotecommand.StreamOptions) error {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	e, err := remotecommand.NewSPDYExecutor(&rest.Config{}, "POST", u)
	if err != nil {
		t.Fatal(err)
	}
	return e.StreamWithContext(t.Context(), o)
}

func TestExecURL(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("url")
	sb := w.runPod(pod)
	id := w.run(sb, pod, w.sh("main", "sleep 1000"))
	res, err := w.api.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"sh", "-c", "cat; exit 6"}, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = remote(t, res.Url, remotecommand.StreamOptions{Stdin: strings.NewReader("over http"), Stdout: &out, Stderr: io.Discard})
	var code utilexec.ExitError
	if !errors.As(err, &code) || code.ExitStatus() != 6 || out.String() != "over http" {
		t.Errorf("exec = %q, %v", out.String(), err)
	}
	if err := remote(t, res.Url, remotecommand.StreamOptions{Stdout: &out}); err == nil {
		t.Error("a URL worked twice")
	}
	for _, c := range []string{"nobody", ""} {
		if _, err := w.api.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: c, Cmd: []string{"true"}, Stdout: true}); status.Code(err) != codes.NotFound {
			t.Errorf("exec in %q: %v", c, err)
		}
	}
}

func TestAttach(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("attach")
	sb := w.runPod(pod)
	c := w.sh("main", "read line; echo got $line; read line; echo and $line; exit 2")
	c.Stdin, c.StdinOnce = true, true
	id := w.run(sb, pod, c)
	var out bytes.Buffer
	if err := w.r.Streams().Attach(t.Context(), id, strings.NewReader("one\ntwo\n"), nopCloser{&out}, nil, false, nil); err != nil {
		t.Fatal(err)
	}
	if out.String() != "got one\nand two\n" {
		t.Errorf("attached output = %q", out.String())
	}
	if st := w.exit(id); st.ExitCode != 2 {
		t.Errorf("container = %v", st)
	}
	if log := w.log(id); log != out.String() {
		t.Errorf("log = %q", log)
	}

	c = w.sh("tty", "stty size; read line; echo got $line; sleep 1000")
	c.Stdin, c.Tty = true, true
	id = w.run(sb, pod, c)
	res, err := w.api.Attach(t.Context(), &runtimeapi.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Tty: true})
	if err != nil {
		t.Fatal(err)
	}
	in, typist := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- remote(t, res.Url, remotecommand.StreamOptions{Stdin: in, Stdout: outW, Tty: true})
	}()
	if _, err := typist.Write([]byte("typed\n")); err != nil {
		t.Fatal(err)
	}
	want := "got typed\r\n"
	var seen strings.Builder
	buf := make([]byte, 1)
	for !strings.Contains(seen.String(), want) {
		if _, err := outR.Read(buf); err != nil {
			t.Fatalf("%q: %v", seen.String(), err)
		}
		seen.Write(buf)
	}
	go func() { _, _ = io.Copy(io.Discard, outR) }()
	if err := w.api.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("attach: %v", err)
		}
	case <-time.After(patience):
		t.Error("the attachment outlives the container")
	}

	// One that comes when all is said, and is cut off by the end, must not look like one to a silent container.
	id = w.run(sb, pod, w.sh("late", "echo early; sleep 1000"))
	w.eventually("it has written", func() bool { return w.log(id) == "early\n" })
	go func() { done <- w.r.Streams().Attach(t.Context(), id, nil, nopCloser{io.Discard}, nil, false, nil) }()
	if err := w.api.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err == nil {
			t.Error("an attachment that came too late has no error")
		}
	case <-time.After(patience):
		t.Error("the late attachment outlives the container")
	}
}

func TestCutOff(t *testing.T) {
	for name, tc := range map[string]struct {
		sent  int64
		end   shim.AttachEnd
		known bool
		want  string
	}{
		"silent container": {known: true},
		"all was sent":     {sent: 3, end: shim.AttachEnd{Before: 9}, known: true},
		"came too late":    {end: shim.AttachEnd{Before: 9}, known: true, want: "before anything was sent"},
		"older shim":       {want: "before anything was sent"},
		"older shim, sent": {sent: 3},
		"too slow":         {sent: 3, end: shim.AttachEnd{Slow: true}, known: true, want: "does not read fast enough"},
	} {
		err := cutOff("c", tc.sent, tc.end, tc.known)
		if got := fmt.Sprint(err); (err != nil) != (tc.want != "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// A client of the socket that reads no events takes no more memory than maxWaiting events; the node agent's own misses
// none.
func TestListenerThatDoesNotReadIsLetGo(t *testing.T) {
	b := newBroadcast()
	ready, busy, stuck := make(chan struct{}), make(chan struct{}), make(chan struct{})
	errs := make(chan error, 1)
	var once sync.Once
	go func() {
		errs <- b.listen(t.Context(), maxWaiting, func() { close(ready) }, func(*runtimeapi.ContainerEventResponse) error {
			once.Do(func() { close(busy) })
			<-stuck
			return nil
		})
	}()
	<-ready
	b.send(&runtimeapi.ContainerEventResponse{})
	<-busy
	for range 3 * maxWaiting {
		b.send(&runtimeapi.ContainerEventResponse{})
		for l := range b.listeners {
			if len(l.queue) > maxWaiting {
				t.Fatalf("%d events wait", len(l.queue))
			}
		}
	}
	close(stuck)
	if err := <-errs; status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the end of a listener that does not read: %v", err)
	}
}

// duplex joins a reader and a writer.
type duplex struct {
	io.Reader
	io.Writer
}

func (duplex) Close() error { return nil }

func TestPortForward(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("port")
	sb := w.runPod(pod)
	id := w.run(sb, pod, w.sh("main", "echo ready; nc -l -p 8080 -e cat; sleep 1000"))
	w.eventually("it listens", func() bool {
		out, _, err := w.api.ExecSync(t.Context(), id, []string{"cat", "/proc/net/tcp", "/proc/net/tcp6"}, time.Minute)
		return err == nil && strings.Contains(string(out), ":1F90 ")
	})
	var out bytes.Buffer
	if err := w.r.Streams().PortForward(t.Context(), sb, 8080, duplex{strings.NewReader("echo me"), &out}); err != nil || out.String() != "echo me" {
		t.Errorf("port-forward = %q, %v", out.String(), err)
	}
	err := w.r.Streams().PortForward(t.Context(), sb, 9, duplex{strings.NewReader(""), &out})
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("closed port: %v", err)
	}
	if res, err := w.api.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: sb}); err != nil || !strings.HasPrefix(res.Url, "http://127.0.0.1:") {
		t.Errorf("port-forward URL = %v, %v", res, err)
	}
	// On the host's network it is the host's loopback address.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.WriteString(c, "host")
			_ = c.Close()
		}
	}()
	host := w.pod("host")
	host.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	sb = w.runPod(host)
	out.Reset()
	if err := w.r.Streams().PortForward(t.Context(), sb, int32(l.Addr().(*net.TCPAddr).Port), duplex{strings.NewReader(""), &out}); err != nil || out.String() != "host" {
		t.Errorf("port-forward to the host = %q, %v", out.String(), err)
	}
}

func TestLogRotation(t *testing.T) {
	w := realWorld(t)
	pod := w.pod("log")
	sb := w.runPod(pod)
	c := w.sh("main", "while read line; do echo $line; done")
	c.Stdin = true
	id := w.run(sb, pod, c)
	in, typist := io.Pipe()
	go func() { _ = w.r.Streams().Attach(t.Context(), id, in, nil, nil, false, nil) }()
	say := func(s string) {
		t.Helper()
		if _, err := io.WriteString(typist, s+"\n"); err != nil {
			t.Fatal(err)
		}
		w.eventually("it is in the log", func() bool { return strings.HasSuffix(w.log(id), s+"\n") })
	}
	say("one")
	path := w.status(id).LogPath
	rename(t, path, path+".old")
	if err := w.api.ReopenContainerLog(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	say("two")
	if log := w.log(id); log != "two\n" {
		t.Errorf("log = %q", log)
	}
	if err := w.api.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.api.ReopenContainerLog(t.Context(), id); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("reopen of a stopped container's log: %v", err)
	}
}
