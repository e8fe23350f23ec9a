package pod

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericrest "k8s.io/apiserver/pkg/registry/generic/rest"
	"k8s.io/apiserver/pkg/registry/rest"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// logREST streams the log of a container from its node.
type logREST struct{ reach }

var (
	_ rest.GetterWithOptions = &logREST{}
	_ rest.StorageMetadata   = &logREST{}
)

// New implements rest.Storage.
func (r *logREST) New() runtime.Object { return &corev1.Pod{} }

// Destroy implements rest.Storage; there is nothing to destroy.
func (r *logREST) Destroy() {}

// ProducesMIMETypes implements rest.StorageMetadata: a log is text.
func (r *logREST) ProducesMIMETypes(string) []string { return []string{"text/plain"} }

// ProducesObject implements rest.StorageMetadata.
func (r *logREST) ProducesObject(string) any { return "" }

// OverrideMetricsVerb counts the reading of a log as a connection: it may last.
func (r *logREST) OverrideMetricsVerb(verb string) string {
	if verb == "GET" {
		return "CONNECT"
	}
	return verb
}

// NewGetOptions implements rest.GetterWithOptions.
func (r *logREST) NewGetOptions() (runtime.Object, bool, string) {
	return &corev1.PodLogOptions{}, false, ""
}

// Get implements rest.GetterWithOptions. A Pod without a node has an empty log.
func (r *logREST) Get(ctx context.Context, name string, options runtime.Object) (runtime.Object, error) {
	o, ok := options.(*corev1.PodLogOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	if faults := checkLogOptions(o); len(faults) > 0 {
		return nil, errors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), name, faults)
	}
	location, transport, err := r.location(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return &genericrest.LocationStreamer{
		Location:        location,
		Transport:       transport,
		ContentType:     "text/plain",
		Flush:           o.Follow,
		ResponseChecker: genericrest.NewGenericHttpResponseChecker(corev1.Resource("pods/log"), name),
		RedirectChecker: genericrest.PreventRedirects,
	}, nil
}

// checkLogOptions returns every fault of the options. To ask for one stream only is a feature that is
// off by default.
func checkLogOptions(o *corev1.PodLogOptions) field.ErrorList {
	var l fielderrors.List
	if o.TailLines != nil && *o.TailLines < 0 {
		l.Invalid(field.NewPath("tailLines"), *o.TailLines, "must be greater than or equal to 0")
	}
	if o.LimitBytes != nil && *o.LimitBytes < 1 {
		l.Invalid(field.NewPath("limitBytes"), *o.LimitBytes, "must be greater than 0")
	}
	switch {
	case o.SinceSeconds != nil && o.SinceTime != nil:
		l.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified")
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		l.Invalid(field.NewPath("sinceSeconds"), *o.SinceSeconds, "must be greater than 0")
	}
	if o.Stream != nil {
		l.Forbidden(field.NewPath("stream"), "may not be specified")
	}
	return l.Errors()
}

func (r *logREST) location(ctx context.Context, name string, o *corev1.PodLogOptions) (*url.URL, http.RoundTripper, error) {
	pod, err := getPod(ctx, r.pods, name)
	if err != nil {
		return nil, nil, err
	}
	chosen, err := container(pod, o.Container)
	if err != nil {
		return nil, nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, nil, nil
	}
	path := fmt.Sprintf("/containerLogs/%s/%s/%s", pod.Namespace, pod.Name, chosen)
	location, transport, err := r.at(ctx, pod.Spec.NodeName, path, logQuery(o))
	if err == nil && o.InsecureSkipTLSVerifyBackend {
		transport = withoutVerification(transport)
	}
	return location, transport, err
}

func logQuery(o *corev1.PodLogOptions) url.Values {
	q := url.Values{}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"follow", o.Follow}, {"previous", o.Previous}, {"timestamps", o.Timestamps}} {
		if flag.set {
			q.Set(flag.name, "true")
		}
	}
	for _, number := range []struct {
		name  string
		value *int64
	}{{"sinceSeconds", o.SinceSeconds}, {"tailLines", o.TailLines}, {"limitBytes", o.LimitBytes}} {
		if number.value != nil {
			q.Set(number.name, strconv.FormatInt(*number.value, 10))
		}
	}
	if o.SinceTime != nil {
		q.Set("sinceTime", o.SinceTime.Format(time.RFC3339))
	}
	return q
}

// withoutVerification returns a transport that takes any certificate of the node. One that it cannot
// look into stays as it is.
func withoutVerification(transport http.RoundTripper) http.RoundTripper {
	t, ok := transport.(*http.Transport)
	for !ok {
		wrapper, wrapped := transport.(utilnet.RoundTripperWrapper)
		if !wrapped {
			return transport
		}
		transport = wrapper.WrappedRoundTripper()
		t, ok = transport.(*http.Transport)
	}
	t = t.Clone()
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.InsecureSkipVerify = true // asked for by the client, for its own log alone
	return t
}
