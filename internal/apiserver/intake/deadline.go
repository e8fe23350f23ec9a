package intake

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// bodyDeadline sets the deadline of a request's body, for as long as the server's own handler has not returned. A request that times
// out is answered while its handler still runs in a goroutine of its own, and net/http takes the writer of an answered request back.
type bodyDeadline struct {
	mu   sync.Mutex
	over bool
	of   *http.ResponseController
}

type bodyDeadlineKey struct{}

// WithBodyDeadline puts what the filter of Wrap ends slow bodies with before the whole chain of handlers, time-outs included.
func WithBodyDeadline(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			handler.ServeHTTP(w, r)
			return
		}
		d := &bodyDeadline{of: http.NewResponseController(w)}
		defer d.end()
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), bodyDeadlineKey{}, d)))
	})
}

// end makes every later set do nothing.
func (d *bodyDeadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
}

// set sets the deadline, or takes it away with the zero time. It does nothing for a request that is answered already, whose body
// the server has closed, or that did not come through WithBodyDeadline: its body ends with the request's time-out.
func (d *bodyDeadline) set(at time.Time) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over {
		// An error here is one of a connection that is gone or has no deadlines; reading finds out by itself.
		_ = d.of.SetReadDeadline(at)
	}
}

// bodyDeadlineOf returns the request's, or nil.
func bodyDeadlineOf(ctx context.Context) *bodyDeadline {
	d, _ := ctx.Value(bodyDeadlineKey{}).(*bodyDeadline)
	return d
}
