package image

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// bounded bounds what registries and token servers return. Bodies end at the size of a document, except those of blobs:
// they are read up to the size that their descriptors have. Nor may a server compress them with zstd on the way, for
// which the library sets no bound that suits us; layers that are compressed are another thing.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.Header.Get("Accept-Encoding"), "zstd") {
		r = r.Clone(r.Context())
		r.Header.Set("Accept-Encoding", "gzip;q=0.8, deflate;q=0.5")
	}
	response, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if strings.Contains(strings.ToLower(response.Header.Get("Content-Encoding")), "zstd") {
		response.Body.Close()
		return nil, fmt.Errorf("the response from %s is encoded with zstd, which was not requested", r.URL.Redacted())
	}
	if !isForBlob(r) {
		response.Body = &boundedBody{ReadCloser: response.Body, left: maxDocument, url: r.URL.Redacted()}
	}
	return response, nil
}

// isForBlob reports whether a request, or the one that was redirected to it, is for a blob. A registry chooses the
// address of its token server, which must not look like one: requests for tokens accept no particular type.
func isForBlob(r *http.Request) bool {
	for r.Response != nil && r.Response.Request != nil {
		r = r.Response.Request
	}
	return r.Header.Get("Accept") != "" && strings.Contains(r.URL.Path, "/blobs/")
}

// boundedBody is a body of which only so much is read.
type boundedBody struct {
	io.ReadCloser
	left int64
	url  string
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("the response from %s has more than %d bytes", b.url, maxDocument)
	}
	return n, err
}
