package intake

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// restTime is how long the rest of a body has when its request is answered without it, over HTTP/1. There net/http sends an answer
// only after up to 256 KiB of the rest, and would wait for them for ever; with HTTP/2 it ends the stream.
const restTime = time.Second

// bodyDeadline sets the deadline of a request's body, for as long as the server's own handler has not returned. A request that times
// out is answered while its handler still runs in a goroutine of its own, and net/http takes the writer of an answered request back.
type bodyDeadline struct {
	mu   sync.Mutex
	over bool
	of   *http.ResponseController
	body *watchedBody
}

// watchedBody is a body that knows whether anything is left of it to wait for.
type watchedBody struct {
	io.ReadCloser
	ended atomic.Bool
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.ended.Store(true)
	}
	return n, err
}

// Close implements io.Closer. net/http waits for no rest of a body that is closed.
func (b *watchedBody) Close() error {
	defer b.ended.Store(true)
	return b.ReadCloser.Close()
}

type bodyDeadlineKey struct{}

// WithBodyDeadline puts what the filter of Wrap ends slow bodies with before the whole chain of handlers, time-outs included. It
// also bounds how long the answer to a request whose body nobody read waits for that body.
func WithBodyDeadline(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			handler.ServeHTTP(w, r)
			return
		}
		d := &bodyDeadline{of: http.NewResponseController(w), body: &watchedBody{ReadCloser: r.Body}}
		defer d.end(r.ProtoMajor == 1)
		r = r.WithContext(context.WithValue(r.Context(), bodyDeadlineKey{}, d))
		r.Body = d.body
		handler.ServeHTTP(w, r)
	})
}

// end makes every later set do nothing. If the answer would wait for the rest of the body, which a client that means harm never
// sends, the rest gets a deadline of its own. A body that has ended gets none: net/http then waits for the client to hang up, and
// takes a read that fails for that. The next request on the connection begins without a deadline.
func (d *bodyDeadline) end(answerWaits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if answerWaits && !d.body.ended.Load() {
		_ = d.of.SetReadDeadline(time.Now().Add(restTime))
	}
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
