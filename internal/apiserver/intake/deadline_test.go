package intake

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"
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
