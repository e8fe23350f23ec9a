package static

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/klog/v2"
)

// urlTimeout bounds one reading of the URL; the next one is the retry.
const urlTimeout = 10 * time.Second

// loudFailures is how many failures in a row are logged for all to see.
const loudFailures = 3

// urlSource reads the manifest at a URL.
type urlSource struct {
	config   Config
	sink     sink
	client   *http.Client
	last     []byte
	failures int
}

func newURLSource(c Config) *urlSource {
	return &urlSource{config: c, sink: newSink(c, SourceURL), client: &http.Client{Timeout: urlTimeout}}
}

// run reads the URL when it begins and then every so often: servers do not tell of changes.
func (s *urlSource) run(ctx context.Context) {
	ticker := s.config.Clock.NewTicker(s.config.URLFrequency)
	defer ticker.Stop()
	for {
		s.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// look reads the URL once. What cannot be read or used changes nothing.
func (s *urlSource) look(ctx context.Context) {
	err := s.read(ctx)
	if err == nil {
		s.failures = 0
		return
	}
	if ctx.Err() != nil {
		return
	}
	if s.failures++; s.failures <= loudFailures {
		klog.ErrorS(err, "Failed to read pods from URL", "url", s.config.URL)
		s.config.warn("can't process config URL %q: %v", s.config.URL, err)
	}
}

func (s *urlSource) read(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.config.URL, nil)
	if err != nil {
		return err
	}
	request.Header = s.config.Header.Clone()
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxManifest+1))
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%v: %v", s.config.URL, response.Status)
	case len(content) > maxManifest:
		return fmt.Errorf("it is larger than %d bytes", maxManifest)
	case len(content) == 0:
		s.last = nil
		s.sink.put(nil)
		return fmt.Errorf("zero-length data received from %v", s.config.URL)
	case bytes.Equal(content, s.last):
		return nil
	}
	said, err := s.config.parse(content, SourceURL, s.config.URL)
	if err != nil && !errors.Is(err, errEmpty) {
		return err
	}
	for _, pod := range said.pods {
		if err := checkReferences(pod, nil); err != nil {
			return err
		}
	}
	s.last = content
	s.sink.put(said.pods)
	return nil
}
