// Command web is the demo's web server. It serves the files below /usr/share/nginx/html, the path in the image
// that it stands in for, on port 80, logs each request to standard output, and shuts down gracefully on
// SIGTERM, SIGQUIT and SIGINT.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	root := flag.String("root", "/usr/share/nginx/html", "folder to serve")
	listen := flag.String("listen", ":80", "address to listen on")
	flag.Parse()
	if err := run(*root, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func run(root, listen string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT)
	defer stop()
	server := &http.Server{Addr: listen, Handler: logged(files(root)), ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(os.Stderr, "web: shutting down")
	last, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(last); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// files serves the files below root. A folder is served as its index.html, or as 403 Forbidden if it has none.
func files(root string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "podium-demo-web")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			refuse(w, http.StatusMethodNotAllowed)
			return
		}
		name := filepath.Join(root, filepath.FromSlash(path.Clean("/"+r.URL.Path)))
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			name = filepath.Join(name, "index.html")
			if _, err := os.Stat(name); err != nil {
				refuse(w, http.StatusForbidden)
				return
			}
		}
		f, err := os.Open(name)
		if err != nil {
			refuse(w, http.StatusNotFound)
			return
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			refuse(w, http.StatusInternalServerError)
			return
		}
		http.ServeContent(w, r, name, info.ModTime(), f)
	})
}

func refuse(w http.ResponseWriter, code int) {
	text := fmt.Sprintf("%d %s", code, http.StatusText(code))
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(code)
	fmt.Fprintf(w, "<html><head><title>%s</title></head><body><h1>%s</h1></body></html>\n", text, text)
}

// logged logs each request in the combined log format of web servers.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		counted := &counter{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(counted, r)
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		fmt.Printf("%s - - [%s] \"%s %s %s\" %d %d %q %q\n", host, start.Format("02/Jan/2006:15:04:05 -0700"),
			r.Method, r.RequestURI, r.Proto, counted.code, counted.size, orDash(r.Referer()), orDash(r.UserAgent()))
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// counter records the status code and the size of a response.
type counter struct {
	http.ResponseWriter
	code int
	size int64
}

func (c *counter) WriteHeader(code int) {
	c.code = code
	c.ResponseWriter.WriteHeader(code)
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.size += int64(n)
	return n, err
}
