package intake

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"podium.dev/podium/test/pace"
)

// A handler that goes on after its request was answered, as one that timed out does, leaves the answered writer alone. It is the
// race detector that judges.
func TestAnsweredRequestHasNoDeadline(t *testing.T) {
	done := make(chan struct{}, 64)
	server := httptest.NewUnstartedServer(WithBodyDeadline(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began := make(chan struct{})
		go func() {
			d := bodyDeadlineOf(r.Context())
			close(began)
			for range 100 {
				d.set(time.Now().Add(time.Minute))
			}
			done <- struct{}{}
		}()
		<-began
	})))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	for range 20 {
		body, end := io.Pipe()
		answer, err := server.Client().Post(server.URL, "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		_ = end.Close()
	}
	for range 20 {
		<-done
	}
}

// A body that does not come is given up at the deadline.
func TestSlowBodyMeetsItsDeadline(t *testing.T) {
	got := make(chan error, 1)
	server := httptest.NewUnstartedServer(WithBodyDeadline(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		bodyDeadlineOf(r.Context()).set(time.Now().Add(10 * time.Millisecond))
		_, err := io.ReadAll(r.Body)
		got <- err
	})))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	body, end := io.Pipe()
	defer func() { _ = end.Close() }()
	answer, err := server.Client().Post(server.URL, "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the body ended with %v", err)
	}
}

// Over HTTP/1 a request that is refused before its body is read is answered, whether or not the body comes; one whose body does come
// leaves a connection that can be used again.
func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	server := httptest.NewServer(WithBodyDeadline(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/read" {
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		http.Error(w, "too many", http.StatusTooManyRequests)
	})))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(pace.Of(20 * time.Second)))
	in := bufio.NewReader(conn)
	exchange := func(path, body string) *http.Response {
		t.Helper()
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: podium\r\nContent-Length: 3\r\n\r\n%s", path, body); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%s with the body %q: %v", path, body, err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		return answer
	}
	for _, path := range []string{"/read", "/refuse", "/read"} {
		if got := exchange(path, "abc"); got.Close {
			t.Errorf("%s with its whole body ends the connection", path)
		}
	}
	if got := exchange("/refuse", "a"); got.StatusCode != http.StatusTooManyRequests || !got.Close {
		t.Errorf("without the rest of its body: %d, and the connection is kept: %v", got.StatusCode, !got.Close)
	}
}
