package intake

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// world is the filter before a handler that stays until it may go.
type world struct {
	t       *testing.T
	handler http.Handler
	inside  chan string   // the name of each user whose request is handled
	leave   chan struct{} // closed when they may go
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, inside: make(chan string, 10*maxReads), leave: make(chan struct{})}
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	w.handler = Wrap(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		who, _ := request.UserFrom(r.Context())
		w.inside <- who.GetName()
		<-w.leave
		_, _ = io.Copy(rw, r.Body)
	}), Config{
		Serializer:  serializer.NewCodecFactory(scheme),
		LongRunning: func(_ *http.Request, i *request.RequestInfo) bool { return i.Verb == "watch" },
		MaxBody:     3 << 20,
	})
	return w
}

// send handles a request of a user.
func (w *world) send(verb string, who user.DefaultInfo, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/pods", body)
	ctx := request.WithUser(r.Context(), &who)
	ctx = request.WithRequestInfo(ctx, &request.RequestInfo{IsResourceRequest: true, Verb: verb, APIVersion: "v1", Resource: "pods"})
	out := httptest.NewRecorder()
	w.handler.ServeHTTP(out, r.WithContext(ctx))
	return out
}

var (
	scheduler = user.DefaultInfo{Name: "system:kube-scheduler"}
	kubelet   = user.DefaultInfo{Name: "system:node:a", Groups: []string{"system:nodes"}}
	admin     = user.DefaultInfo{Name: "admin", Groups: []string{"system:masters"}}
)

func account(namespace, name string) user.DefaultInfo {
	return user.DefaultInfo{Name: "system:serviceaccount:" + namespace + ":" + name, Groups: []string{"system:serviceaccounts"}}
}

// begin sends requests side by side and returns when as many are inside the handler.
func (w *world) begin(n int, verb string, who func(int) user.DefaultInfo) {
	w.t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Add(1)
		go func() { defer all.Done(); w.send(verb, who(i), http.NoBody) }()
	}
	w.t.Cleanup(all.Wait)
	for range n {
		<-w.inside
	}
}

// A user who has all the slots that he may have is turned away, alone; the control plane has slots of its own.
func TestSlots(t *testing.T) {
	w := newWorld(t)
	w.begin(maxUserWrites, "create", func(i int) user.DefaultInfo { return account("evil", fmt.Sprint("sa", i)) })
	refused := w.send("create", account("evil", "another"), http.NoBody)
	if refused.Code != http.StatusTooManyRequests || refused.Header().Get("Retry-After") == "" || !strings.Contains(refused.Body.String(), `"kind":"Status"`) {
		t.Errorf("one more of the namespace: %d %v %s", refused.Code, refused.Header(), refused.Body)
	}
	// Others fill the class.
	w.begin(maxWrites-maxUserWrites, "create", func(i int) user.DefaultInfo { return user.DefaultInfo{Name: fmt.Sprint("u", i)} })
	if got := w.send("create", user.DefaultInfo{Name: "late"}, http.NoBody); got.Code != http.StatusTooManyRequests {
		t.Errorf("one more than all may have: %d", got.Code)
	}
	for i, who := range []user.DefaultInfo{scheduler, kubelet, admin, {Name: "system:kube-controller-manager"}} {
		w.begin(1, []string{"create", "update", "patch", "delete"}[i], func(int) user.DefaultInfo { return who })
	}
	w.begin(1, "list", func(int) user.DefaultInfo { return account("evil", "reader") })
	w.begin(maxReads, "watch", func(int) user.DefaultInfo { return account("evil", "watcher") })
	close(w.leave)
}

// Bodies that do not come take no slot of anybody, and one user has no more than so many of them.
func TestSlowBodies(t *testing.T) {
	w := newWorld(t)
	close(w.leave)
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan int, 10*maxUserBodies)
	for i := range 4 * maxUserBodies {
		all.Add(1)
		go func() {
			defer all.Done()
			r, end := io.Pipe()
			defer context.AfterFunc(ctx, func() { end.CloseWithError(io.ErrClosedPipe) })()
			refused <- w.send("create", account("evil", fmt.Sprint("sa", i%3)), r).Code
		}()
	}
	for range 3 * maxUserBodies { // all but those who wait
		if code := <-refused; code != http.StatusTooManyRequests {
			t.Errorf("code %d", code)
		}
	}
	for _, who := range []user.DefaultInfo{kubelet, scheduler, {Name: "jane"}, account("good", "sa")} {
		if got := w.send("create", who, strings.NewReader("{}")); got.Code != http.StatusOK || got.Body.String() != "{}" {
			t.Errorf("%s: %d %s", who.Name, got.Code, got.Body)
		}
	}
	cancel()
	all.Wait()
	if got := w.send("create", account("evil", "sa"), strings.NewReader("{}")); got.Code != http.StatusOK {
		t.Errorf("afterwards: %d", got.Code)
	}
}

// The bytes of a user's bodies are bounded as long as the requests are handled, and free again after that.
func TestBytesOfBodies(t *testing.T) {
	w := newWorld(t)
	body := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	var all sync.WaitGroup
	codes := make(chan int, 64)
	for range 16 {
		all.Add(1)
		go func() {
			defer all.Done()
			codes <- w.send("create", user.DefaultInfo{Name: "evil"}, bytes.NewReader(body)).Code
		}()
	}
	var turnedAway int
	for handled := 0; handled+turnedAway < 16; {
		select {
		case <-w.inside:
			handled++
		case code := <-codes:
			if turnedAway++; code != http.StatusTooManyRequests {
				t.Errorf("code %d", code)
			}
		}
	}
	if least := 16 - maxUserBodyBytes/len(body); turnedAway < least {
		t.Errorf("%d were turned away, expected %d or more", turnedAway, least)
	}
	close(w.leave)
	all.Wait()
	if got := w.send("create", user.DefaultInfo{Name: "evil"}, bytes.NewReader(body)); got.Code != http.StatusOK || got.Body.Len() != len(body) {
		t.Errorf("afterwards: %d, %d bytes", got.Code, got.Body.Len())
	}
	if f := w.handler.(*filter); f.others.bodies.used != 0 || len(f.others.bodies.by) != 0 || len(f.others.pending.by) != 0 {
		t.Errorf("left: %d bytes, %v, %v", f.others.bodies.used, f.others.bodies.by, f.others.pending.by)
	}
}

// What is too large is handed on as far as the handler needs it to say so; what would blow up is refused with a Status.
func TestBodiesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	close(w.leave)
	large := `"` + strings.Repeat("x", 4<<20) + `"`
	if got := w.send("create", user.DefaultInfo{Name: "u"}, strings.NewReader(large)); got.Body.Len() != 3<<20+1 {
		t.Errorf("of a body that is too large the handler got %d bytes", got.Body.Len())
	}
	bomb := "[" + strings.Repeat("{},", 100000) + "{}]"
	if got := w.send("create", user.DefaultInfo{Name: "u"}, strings.NewReader(bomb)); got.Code != http.StatusRequestEntityTooLarge || !strings.Contains(got.Body.String(), "send fewer") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}
