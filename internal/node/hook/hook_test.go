package hook

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	clocktesting "k8s.io/utils/clock/testing"
)

type scripted struct {
	internalapi.RuntimeService
	err error
}

func (s scripted) ExecSync(_ context.Context, _ string, _ []string, timeout time.Duration) ([]byte, []byte, error) {
	if timeout != 0 {
		return nil, nil, errors.New("a hook has no timeout of its own")
	}
	return []byte("out"), []byte("err"), s.err
}

var (
	pod       = &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "uid"}}
	container = &v1.Container{Name: "c"}
	refused   = intstr.FromInt32(1)
)

func address(t *testing.T, raw string) (host string, port intstr.IntOrString) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(u.Port())
	return u.Hostname(), intstr.FromInt32(int32(n))
}

func TestRun(t *testing.T) {
	var agents []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agents = append(agents, r.UserAgent()+r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer server.Close()
	host, port := address(t, server.URL)
	for _, tc := range []struct {
		name    string
		handler v1.LifecycleHandler
		exec    error
		want    string // the message's beginning; none for success
	}{
		{"exec", v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}, nil, ""},
		{"exec fails", v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"a", "b"}}}, errors.New("exit 1"),
			`Exec lifecycle hook ([a b]) for Container "c" in Pod "p_ns(uid)" failed - error: exit 1, message: "outerr"`},
		{"http, whatever the answer", v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{Port: port}}, nil, ""},
		{"https answered in plain", v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{
			Port: port, Scheme: v1.URISchemeHTTPS, HTTPHeaders: []v1.HTTPHeader{{Name: "Authorization", Value: "secret"}},
		}}, nil, ""},
		{"http fails", v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{Path: "/x", Port: refused}}, nil,
			`HTTP lifecycle hook (/x) for Container "c" in Pod "p_ns(uid)" failed - error: Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused`},
		{"tcp", v1.LifecycleHandler{TCPSocket: &v1.TCPSocketAction{Port: port}}, nil, ""},
		{"tcp fails", v1.LifecycleHandler{TCPSocket: &v1.TCPSocketAction{Port: refused}}, nil, `TCP lifecycle hook (1) for Container "c"`},
		{"none", v1.LifecycleHandler{}, nil, "Cannot run handler: invalid handler"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			events := record.NewFakeRecorder(10)
			r := Runner{Runtime: scripted{err: tc.exec}, Recorder: events}
			msg, err := r.Run(context.Background(), pod, container, "id", host, &tc.handler)
			if (err != nil) != (tc.want != "") || !strings.HasPrefix(msg, tc.want) || (tc.want == "" && msg != "") {
				t.Errorf("%q, %v", msg, err)
			}
			if tc.name == "https answered in plain" {
				if got := <-events.Events; !strings.HasPrefix(got, "Warning LifecycleHTTPFallback request to HTTPS lifecycle hook "+host) {
					t.Errorf("event %q", got)
				}
			}
		})
	}
	for _, a := range agents {
		if a != "kube-lifecycle/1.37" {
			t.Errorf("agent %q", a)
		}
	}
}

func TestSleep(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := Runner{Clock: clk}
	h := &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 5}}
	done := make(chan error)
	go func() {
		_, err := r.Run(context.Background(), pod, container, "id", "", h)
		done <- err
	}()
	for !clk.HasWaiters() {
		<-time.After(time.Millisecond)
	}
	clk.Step(5 * time.Second)
	if err := <-done; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	msg, err := r.Run(ctx, pod, container, "id", "", h)
	if err == nil || msg != `Sleep lifecycle hook (5) for Container "c" in Pod "p_ns(uid)" failed - error: container terminated before sleep hook finished` {
		t.Errorf("%q, %v", msg, err)
	}
}
