// Package control is the daemon's own small API on a unix socket in its run folder, through which `podium
// down`, `podium image` and `podium trace` reach the daemon of a root. It is HTTP with JSON bodies. Only root
// can open the socket.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrNotRunning is returned by a Client's methods if no daemon listens on the socket.
var ErrNotRunning = errors.New("no podium daemon is running on this root")

// ErrEnded is returned by a Client's methods if the daemon accepted the call and exited before it replied.
var ErrEnded = errors.New("the podium daemon exited before it replied")

// Status is the state that the daemon reports.
type Status struct {
	PID        int    `json:"pid"`
	Root       string `json:"root"`
	NodeName   string `json:"nodeName"`
	Kubeconfig string `json:"kubeconfig"`
	Ready      bool   `json:"ready"`
}

// Image is an image in the daemon's store, as `podium image list` prints it.
type Image struct {
	ID     string   `json:"id"`
	Names  []string `json:"names"`
	Size   int64    `json:"size"` // bytes on disk, compressed
	Pinned bool     `json:"pinned"`
}

// Step is one step of a Pod's start or stop.
type Step struct {
	Name  string        `json:"name"`
	Start time.Time     `json:"start"`
	Took  time.Duration `json:"took"` // nanoseconds
	Error string        `json:"error,omitempty"`
}

// Daemon implements what the socket serves.
type Daemon interface {
	Status() Status
	// Stop stops the daemon and leaves the Pods running. It returns at once.
	Stop()
	// Trace returns the steps of a Pod's life so far.
	Trace(namespace, name string) ([]Step, error)
	ListImages(ctx context.Context) ([]Image, error)
	// PullImage pulls an image. It calls progress with lines for the user.
	PullImage(ctx context.Context, ref string, progress func(string)) (Image, error)
	LoadImage(ctx context.Context, archive string) ([]Image, error)
	RemoveImage(ctx context.Context, ref string) error
	// ExportImage writes a docker-save archive.
	ExportImage(ctx context.Context, ref string, to io.Writer) error
}

// Serve serves the socket until ctx ends. It replaces a socket that a dead daemon left behind; the caller must
// hold the root's lock.
func Serve(ctx context.Context, socket string, d Daemon) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen on the control socket: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		l.Close()
		return err
	}
	s := &http.Server{Handler: handler(d), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// event is one line of a streamed response: progress, then a result or an error.
type event struct {
	Progress string  `json:"progress,omitempty"`
	Images   []Image `json:"images,omitempty"`
	Error    string  `json:"error,omitempty"`
}

func handler(d Daemon) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.Status(), nil) })
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, _ *http.Request) {
		// The answer first: with the daemon its connections end too.
		w.WriteHeader(http.StatusNoContent)
		_ = http.NewResponseController(w).Flush()
		d.Stop()
	})
	mux.HandleFunc("GET /v1/trace/{namespace}/{name}", func(w http.ResponseWriter, r *http.Request) {
		steps, err := d.Trace(r.PathValue("namespace"), r.PathValue("name"))
		answer(w, steps, err)
	})
	mux.HandleFunc("GET /v1/images", func(w http.ResponseWriter, r *http.Request) {
		images, err := d.ListImages(r.Context())
		answer(w, images, err)
	})
	mux.HandleFunc("POST /v1/images/load", func(w http.ResponseWriter, r *http.Request) {
		images, err := d.LoadImage(r.Context(), r.FormValue("archive"))
		answer(w, images, err)
	})
	mux.HandleFunc("POST /v1/images/pull", func(w http.ResponseWriter, r *http.Request) {
		out := json.NewEncoder(w)
		image, err := d.PullImage(r.Context(), r.FormValue("ref"), func(line string) {
			if out.Encode(event{Progress: line}) == nil {
				_ = http.NewResponseController(w).Flush() // if the client is gone, the context ends
			}
		})
		last := event{Images: []Image{image}}
		if err != nil {
			last = event{Error: err.Error()}
		}
		_ = out.Encode(last)
	})
	mux.HandleFunc("DELETE /v1/images", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, d.RemoveImage(r.Context(), r.FormValue("ref")))
	})
	mux.HandleFunc("GET /v1/images/export", func(w http.ResponseWriter, r *http.Request) {
		sent := &countingWriter{w: w}
		if err := d.ExportImage(r.Context(), r.FormValue("ref"), sent); err != nil {
			if sent.n > 0 {
				panic(http.ErrAbortHandler) // tells the client that the body is truncated
			}
			answer(w, nil, err)
		}
	})
	return mux
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func answer(w http.ResponseWriter, body any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// Client calls the daemon of a root.
type Client struct{ http *http.Client }

// NewClient returns a client of the socket. It does not connect before the first call.
func NewClient(socket string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

func (c *Client) do(ctx context.Context, method, path string, form url.Values) (*http.Response, error) {
	u := "http://podium" + path
	if len(form) > 0 {
		u += "?" + form.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("call the daemon: %w; run it with sudo", err)
	}
	if err != nil {
		return nil, ended(err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return nil, errors.New(string(trimNewline(text)))
	}
	return resp, nil
}

func trimNewline(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		return b[:n-1]
	}
	return b
}

func (c *Client) call(ctx context.Context, method, path string, form url.Values, into any) error {
	resp, err := c.do(ctx, method, path, form)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		return nil
	}
	return ended(json.NewDecoder(resp.Body).Decode(into))
}

// ended wraps an error that means that the other side closed the connection in ErrEnded.
func ended(err error) error {
	for _, gone := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, gone) {
			return fmt.Errorf("%w: %w", ErrEnded, err)
		}
	}
	// The connection was closed before anything was sent. net/http does not export this error.
	if err != nil && strings.HasSuffix(err.Error(), "http: server closed idle connection") {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return err
}

// Status returns the daemon's state.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Stop tells the daemon to exit and leave the Pods running. It does not wait for the exit.
func (c *Client) Stop(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/stop", nil, nil)
}

// Trace returns the steps of a Pod's life.
func (c *Client) Trace(ctx context.Context, namespace, name string) (steps []Step, err error) {
	return steps, c.call(ctx, http.MethodGet, "/v1/trace/"+url.PathEscape(namespace)+"/"+url.PathEscape(name), nil, &steps)
}

// ListImages returns the images in the store.
func (c *Client) ListImages(ctx context.Context) (images []Image, err error) {
	return images, c.call(ctx, http.MethodGet, "/v1/images", nil, &images)
}

// LoadImage loads the archive at an absolute path into the daemon's store.
func (c *Client) LoadImage(ctx context.Context, archive string) (images []Image, err error) {
	return images, c.call(ctx, http.MethodPost, "/v1/images/load", url.Values{"archive": {archive}}, &images)
}

// RemoveImage removes an image.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodDelete, "/v1/images", url.Values{"ref": {ref}}, nil)
}

// PullImage makes the daemon pull an image, and calls progress with each line that it reports.
func (c *Client) PullImage(ctx context.Context, ref string, progress func(string)) (Image, error) {
	resp, err := c.do(ctx, http.MethodPost, "/v1/images/pull", url.Values{"ref": {ref}})
	if err != nil {
		return Image{}, err
	}
	defer resp.Body.Close()
	for in := json.NewDecoder(resp.Body); ; {
		var e event
		if err := in.Decode(&e); err != nil {
			return Image{}, fmt.Errorf("the daemon exited during the pull: %w", err)
		}
		switch {
		case e.Error != "":
			return Image{}, errors.New(e.Error)
		case len(e.Images) > 0:
			return e.Images[0], nil
		default:
			progress(e.Progress)
		}
	}
}

// ExportImage writes the docker-save archive of an image to to.
func (c *Client) ExportImage(ctx context.Context, ref string, to io.Writer) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/images/export", url.Values{"ref": {ref}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(to, resp.Body)
	return err
}
