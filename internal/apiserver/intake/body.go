package intake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// chunk is how much of a body is read, and taken of its user's share, at a time.
const chunk = 32 << 10

// received is a body that has arrived.
type received struct {
	bytes []byte
	*bytes.Reader
}

// Close implements io.Closer.
func (*received) Close() error { return nil }

// receive reads a body within bodyTime, and one byte more than the largest of it: the handler then says that it is too large. What
// it reads is taken of the holding.
func receive(r *http.Request, largest int64, held *holding) (*received, error) {
	deadline := bodyDeadlineOf(r.Context())
	deadline.set(time.Now().Add(bodyTime))
	var content []byte
	for int64(len(content)) <= largest {
		n := min(chunk, largest+1-int64(len(content)))
		if !held.take(n) {
			return nil, apierrors.NewTooManyRequests("too many bytes of this user's requests are being received; try again later", retryAfter)
		}
		before := len(content)
		grown, err := readChunk(r.Body, content, int(n))
		content = grown
		if spare := n - int64(len(content)-before); spare > 0 {
			held.shares.give(held.name, spare)
			held.bytes -= spare
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, apierrors.NewTimeoutError(fmt.Sprintf("the body of the request did not arrive within %v", bodyTime), retryAfter)
		}
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("read the body of the request: %v", err))
		}
	}
	deadline.set(time.Time{})
	_ = r.Body.Close()
	return &received{content, bytes.NewReader(content)}, nil
}

// readChunk appends up to n bytes of a body.
func readChunk(body io.Reader, content []byte, n int) ([]byte, error) {
	old := len(content)
	if cap(content)-old < n {
		content = append(content, make([]byte, n)...)[:old]
	}
	read, err := io.ReadFull(body, content[old:old+n])
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return content[:old+read], err
}
