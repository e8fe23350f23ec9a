package apiserver

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/munnerz/goautoneg"
	"k8s.io/klog/v2"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
)

// openAPIDocs serves /openapi/v2 and /openapi/v3. A document is large and most are never asked for, so each
// is built when it is, and kept compressed. What they say depends on the binary alone, so their tags are made
// from that and not from their content, which would have to be built to list them.
type openAPIDocs struct {
	build string // names the binary
	start time.Time
	docs  map[string]*openAPIDoc // by path: "/openapi/v2", "/openapi/v3/api/v1"
}

// openAPIDoc is one document in its two encodings, made when first wanted.
type openAPIDoc struct {
	make  func() ([]byte, error) // as JSON
	proto func([]byte) ([]byte, error)

	mu     sync.Mutex
	packed map[string][]byte // by subtype
}

// The subtypes that documents come in. Clients name protobuf in two ways.
const subtypeJSON = "json"

var protoSubtypes = map[string]string{
	"com.github.proto-openapi.spec.v2@v1.0+protobuf": "com.github.proto-openapi.spec.v2.v1.0+protobuf",
	"com.github.proto-openapi.spec.v2.v1.0+protobuf": "com.github.proto-openapi.spec.v2.v1.0+protobuf",
	"com.github.proto-openapi.spec.v3@v1.0+protobuf": "com.github.proto-openapi.spec.v3.v1.0+protobuf",
	"com.github.proto-openapi.spec.v3.v1.0+protobuf": "com.github.proto-openapi.spec.v3.v1.0+protobuf",
}

// installOpenAPI serves the documents of all that is installed by now.
func (s *Server) installOpenAPI() error {
	o := &openAPIDocs{build: GitVersion, start: time.Now().Truncate(time.Second), docs: map[string]*openAPIDoc{}}
	if exe, err := os.Executable(); err == nil {
		if info, err := os.Stat(exe); err == nil {
			o.build = fmt.Sprintf("%s %d %d", GitVersion, info.Size(), info.ModTime().UnixNano())
		}
	}
	spec := openAPISpec{scheme: s.scheme}
	services := s.generic.Handler.GoRestfulContainer.RegisteredWebServices()
	o.docs["/openapi/v2"] = &openAPIDoc{
		make:  func() ([]byte, error) { return spec.v2(services) },
		proto: handler.ToProtoBinary,
	}
	for _, service := range services {
		o.docs["/openapi/v3"+service.RootPath()] = &openAPIDoc{
			make:  func() ([]byte, error) { return spec.v3(service) },
			proto: handler3.ToV3ProtoBinary,
		}
	}
	list, err := o.list()
	if err != nil {
		return err
	}
	mux := s.generic.Handler.NonGoRestfulMux
	mux.Handle("/openapi/v2", http.HandlerFunc(o.serve))
	mux.HandlePrefix("/openapi/v3/", http.HandlerFunc(o.serve))
	mux.Handle("/openapi/v3", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Etag", `"`+o.tag("/openapi/v3")+`"`)
		http.ServeContent(w, r, "", o.start, bytes.NewReader(list))
	}))
	return nil
}

// tag names the content of a document.
func (o *openAPIDocs) tag(path string) string {
	sum := sha256.Sum256([]byte(o.build + " " + path))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// list is the answer of /openapi/v3: where each document is.
func (o *openAPIDocs) list() ([]byte, error) {
	paths := map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}
	for path := range o.docs {
		if name, ok := strings.CutPrefix(path, "/openapi/v3/"); ok {
			paths[name] = handler3.OpenAPIV3DiscoveryGroupVersion{ServerRelativeURL: o.tagged(path)}
		}
	}
	data, err := json.Marshal(handler3.OpenAPIV3Discovery{Paths: paths})
	if err != nil {
		return nil, fmt.Errorf("list the OpenAPI documents: %w", err)
	}
	return data, nil
}

func (o *openAPIDocs) tagged(path string) string {
	return path + "?" + url.Values{"hash": {o.tag(path)}}.Encode()
}

func (o *openAPIDocs) serve(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	doc := o.docs[path]
	if doc == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Add("Vary", "Accept, Accept-Encoding")
	subtype, ok := acceptedSubtype(r.Header.Get("Accept"))
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	if hash := r.URL.Query().Get("hash"); hash != "" {
		if hash != o.tag(path) {
			http.Redirect(w, r, o.tagged(path), http.StatusMovedPermanently)
			return
		}
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).Format(time.RFC1123))
	}
	data, err := doc.get(subtype)
	if err != nil {
		klog.ErrorS(err, "Cannot make an OpenAPI document", "path", path)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if proto, ok := protoSubtypes[subtype]; ok {
		subtype = proto
	}
	w.Header().Set("Content-Type", "application/"+subtype)
	w.Header().Set("Etag", `"`+o.tag(path)+`"`)
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
	} else if data, err = unpack(data); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	http.ServeContent(w, r, "", o.start, bytes.NewReader(data))
}

// acceptedSubtype returns the encoding that a client likes best.
func acceptedSubtype(accept string) (string, bool) {
	if accept == "" {
		return subtypeJSON, true
	}
	for _, clause := range goautoneg.ParseAccept(accept) {
		if clause.Type != "application" && clause.Type != "*" {
			continue
		}
		if clause.SubType == "*" || clause.SubType == subtypeJSON {
			return subtypeJSON, true
		}
		if _, ok := protoSubtypes[clause.SubType]; ok {
			return clause.SubType, true
		}
	}
	return "", false
}

// get returns the document in an encoding, packed with gzip.
func (d *openAPIDoc) get(subtype string) ([]byte, error) {
	if proto, ok := protoSubtypes[subtype]; ok {
		subtype = proto
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if data, ok := d.packed[subtype]; ok {
		return data, nil
	}
	data, err := d.make()
	if err == nil && subtype != subtypeJSON {
		data, err = d.proto(data)
	}
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	if d.packed == nil {
		d.packed = map[string][]byte{}
	}
	d.packed[subtype] = packed.Bytes()
	return packed.Bytes(), nil
}

func unpack(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
