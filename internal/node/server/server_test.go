package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func running(string) corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func terminated(id string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: id}}
}

func waiting(reason string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

func TestLogContainerID(t *testing.T) {
	for name, tc := range map[string]struct {
		status   *corev1.ContainerStatus
		previous bool
		id, err  string
	}{
		"running":            {status: &corev1.ContainerStatus{ContainerID: "podium://a", State: running("a")}, id: "a"},
		"ended":              {status: &corev1.ContainerStatus{State: terminated("podium://b")}, id: "b"},
		"ended before start": {status: &corev1.ContainerStatus{State: terminated(""), LastTerminationState: terminated("podium://c")}, id: "c"},
		"never had an ID":    {status: &corev1.ContainerStatus{State: terminated("")}, err: `container "web" in pod "p" is terminated`},
		"backing off":        {status: &corev1.ContainerStatus{State: waiting("CrashLoopBackOff"), LastTerminationState: terminated("podium://d")}, id: "d"},
		"creating":           {status: &corev1.ContainerStatus{State: waiting("ContainerCreating")}, err: `container "web" in pod "p" is waiting to start: ContainerCreating`},
		"no image":           {status: &corev1.ContainerStatus{State: waiting("ErrImagePull")}, err: `container "web" in pod "p" is waiting to start: image can't be pulled`},
		"no image again":     {status: &corev1.ContainerStatus{State: waiting("ImagePullBackOff")}, err: `container "web" in pod "p" is waiting to start: trying and failing to pull image`},
		"no state":           {status: &corev1.ContainerStatus{}, err: `container "web" in pod "p" is waiting to start - no logs yet`},
		"no status":          {err: `container "web" in pod "p" is not available`},
		"previous":           {status: &corev1.ContainerStatus{ContainerID: "podium://e", State: running("e"), LastTerminationState: terminated("podium://f")}, previous: true, id: "f"},
		"no previous":        {status: &corev1.ContainerStatus{ContainerID: "podium://e", State: running("e")}, previous: true, err: `previous terminated container "web" in pod "p" not found`},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
		if tc.status != nil {
			tc.status.Name = "web"
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{*tc.status}
		}
		id, err := logContainerID(pod, "web", tc.previous)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if id != tc.id || text != tc.err {
			t.Errorf("%s: got %q, %q; want %q, %q", name, id, text, tc.id, tc.err)
		}
	}
}

type noPods struct{}

func (noPods) Pod(string, string) (*corev1.Pod, bool) { return nil, false }
func (noPods) Pods() []*corev1.Pod                    { return nil }

func TestAnswersTheAPIServerOnly(t *testing.T) {
	s := New(Config{Pods: noPods{}, Clients: []string{"kube-apiserver-kubelet-client"}})
	ask := func(state *tls.ConnectionState) int {
		r := httptest.NewRequest(http.MethodGet, "/pods", nil)
		r.TLS = state
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		return w.Code
	}
	as := func(name string) *tls.ConnectionState {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}
	}
	if got := ask(nil); got != http.StatusUnauthorized {
		t.Errorf("no TLS: %d", got)
	}
	if got := ask(&tls.ConnectionState{}); got != http.StatusUnauthorized {
		t.Errorf("no certificate: %d", got)
	}
	if got := ask(as("system:node:other")); got != http.StatusForbidden {
		t.Errorf("another node: %d", got)
	}
	if got := ask(as("kube-apiserver-kubelet-client")); got != http.StatusOK {
		t.Errorf("the API server: %d", got)
	}
}

func TestUnknownPodAndContainer(t *testing.T) {
	s := New(Config{Pods: noPods{}})
	for path, want := range map[string]string{
		"/containerLogs/default/web/web":            `pod "web" does not exist`,
		"/exec/default/web/web?command=ls&output=1": "pod does not exist",
		"/portForward/default/web":                  "",
	} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, r)
		if w.Code < 400 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %q", path, w.Code, w.Body.String())
		}
	}
}

func TestReadOptions(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	since := int64(60)
	if got, err := readOptions(corev1.PodLogOptions{SinceSeconds: &since}, now); err != nil || !got.Since.Equal(now.Add(-time.Minute)) {
		t.Errorf("got %+v, %v", got, err)
	}
	for stream, want := range map[string][2]bool{"All": {true, true}, "Stdout": {true, false}, "Stderr": {false, true}} {
		if got, err := readOptions(corev1.PodLogOptions{Stream: &stream}, now); err != nil || got.Stdout != want[0] || got.Stderr != want[1] {
			t.Errorf("%s: %+v, %v", stream, got, err)
		}
	}
	bad := "both"
	if _, err := readOptions(corev1.PodLogOptions{Stream: &bad}, now); err == nil {
		t.Error("a stream that there is not was taken")
	}
}

// fakeRuntime has one container, and tells events.
type fakeRuntime struct {
	internalapi.RuntimeService
	status func() (*runtimeapi.ContainerStatusResponse, error)
	events chan *runtimeapi.ContainerEventResponse
}

func (f *fakeRuntime) ContainerStatus(context.Context, string, bool) (*runtimeapi.ContainerStatusResponse, error) {
	return f.status()
}

func (f *fakeRuntime) GetContainerEvents(ctx context.Context, to chan *runtimeapi.ContainerEventResponse, ready func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	ready(nil)
	for {
		select {
		case e := <-f.events:
			to <- e
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// The Pod is deleted while its log is followed: its container may be removed before anybody has asked how it is, and
// that is an end like another.
func TestContainerEndWhenItIsRemoved(t *testing.T) {
	var removed atomic.Bool
	f := &fakeRuntime{events: make(chan *runtimeapi.ContainerEventResponse), status: func() (*runtimeapi.ContainerStatusResponse, error) {
		if removed.Load() {
			return nil, status.Error(codes.NotFound, "no such container")
		}
		return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{State: runtimeapi.ContainerState_CONTAINER_RUNNING}}, nil
	}}
	ended := New(Config{Runtime: f}).containerEnd(t.Context(), "c")
	f.events <- &runtimeapi.ContainerEventResponse{ContainerId: "c"}
	f.events <- &runtimeapi.ContainerEventResponse{ContainerId: "other"} // so the first was looked into
	f.events <- &runtimeapi.ContainerEventResponse{ContainerId: "other"}
	select {
	case <-ended:
		t.Fatal("a container that runs has ended")
	default:
	}
	removed.Store(true)
	f.events <- &runtimeapi.ContainerEventResponse{ContainerId: "c"}
	<-ended
	f.events <- &runtimeapi.ContainerEventResponse{ContainerId: "other"} // nobody waits for the reader of the log
}

func TestLogOptions(t *testing.T) {
	query, err := url.ParseQuery("follow=true&previous=1&timestamps=false&tailLines=2&limitBytes=9&sinceSeconds=60&sinceTime=2026-01-02T03:04:05Z&stream=Stdout&container=c")
	if err != nil {
		t.Fatal(err)
	}
	o, err := logOptions(query)
	if err != nil || !o.Follow || !o.Previous || o.Timestamps || *o.TailLines != 2 || *o.LimitBytes != 9 || *o.SinceSeconds != 60 || o.SinceTime.Day() != 2 || *o.Stream != "Stdout" {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err := logOptions(url.Values{"tail": {"all"}, "tailLines": {"3"}}); err != nil || o.TailLines != nil {
		t.Errorf("tail=all: %+v, %v", o, err)
	}
	for _, bad := range []string{"tailLines=x", "follow=maybe", "sinceTime=yesterday"} {
		query, _ := url.ParseQuery(bad)
		if _, err := logOptions(query); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
