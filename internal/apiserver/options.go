package apiserver

import (
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// addOptions teaches the scheme to read the options of subresources (logs, exec, …) from a URL's query.
func addOptions(s *runtime.Scheme) error {
	for _, o := range []struct {
		into any
		read func(q *query, into any)
	}{
		{&corev1.PodLogOptions{}, readLogOptions},
		{&corev1.PodExecOptions{}, func(q *query, into any) {
			*into.(*corev1.PodExecOptions) = corev1.PodExecOptions{
				Stdin: q.boolean("stdin"), Stdout: q.boolean("stdout"), Stderr: q.boolean("stderr"), TTY: q.boolean("tty"),
				Container: q.text("container"), Command: q.Values["command"],
			}
		}},
		{&corev1.PodAttachOptions{}, func(q *query, into any) {
			*into.(*corev1.PodAttachOptions) = corev1.PodAttachOptions{
				Stdin: q.boolean("stdin"), Stdout: q.boolean("stdout"), Stderr: q.boolean("stderr"), TTY: q.boolean("tty"),
				Container: q.text("container"),
			}
		}},
		{&corev1.PodPortForwardOptions{}, func(q *query, into any) {
			*into.(*corev1.PodPortForwardOptions) = corev1.PodPortForwardOptions{Ports: q.ports("ports")}
		}},
		{&corev1.PodProxyOptions{}, func(q *query, into any) { into.(*corev1.PodProxyOptions).Path = q.text("path") }},
		{&corev1.NodeProxyOptions{}, func(q *query, into any) { into.(*corev1.NodeProxyOptions).Path = q.text("path") }},
		{&corev1.ServiceProxyOptions{}, func(q *query, into any) { into.(*corev1.ServiceProxyOptions).Path = q.text("path") }},
	} {
		err := s.AddConversionFunc((*url.Values)(nil), o.into, func(in, out any, _ conversion.Scope) error {
			q := query{Values: *in.(*url.Values)}
			o.read(&q, out)
			return q.err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func readLogOptions(q *query, into any) {
	o := into.(*corev1.PodLogOptions)
	*o = corev1.PodLogOptions{
		Container:                    q.text("container"),
		Follow:                       q.boolean("follow"),
		Previous:                     q.boolean("previous"),
		SinceSeconds:                 q.integer("sinceSeconds"),
		Timestamps:                   q.boolean("timestamps"),
		TailLines:                    q.integer("tailLines"),
		LimitBytes:                   q.integer("limitBytes"),
		InsecureSkipTLSVerifyBackend: q.boolean("insecureSkipTLSVerifyBackend"),
	}
	if q.Has("stream") {
		stream := q.text("stream")
		o.Stream = &stream
	}
	if v := q.text("sinceTime"); v != "" {
		t := metav1.Time{}
		if q.note(t.UnmarshalQueryParameter(v)) {
			o.SinceTime = &t
		}
	}
}

// query reads typed values from a URL's query and keeps the first error.
type query struct {
	url.Values
	err error
}

func (q *query) note(err error) (ok bool) {
	if q.err == nil {
		q.err = err
	}
	return err == nil
}

func (q *query) text(name string) string { return q.Get(name) }

// boolean is true when the name is there at all, but for "false" and "0": the rule of runtime.Convert_Slice_string_To_bool.
func (q *query) boolean(name string) (b bool) {
	if v, ok := q.Values[name]; ok {
		q.note(runtime.Convert_Slice_string_To_bool(&v, &b, nil))
	}
	return b
}

func (q *query) integer(name string) *int64 {
	if !q.Has(name) {
		return nil
	}
	n, err := strconv.ParseInt(q.Get(name), 10, 64)
	q.note(err)
	return &n
}

func (q *query) ports(name string) (ports []int32) {
	for _, v := range q.Values[name] {
		n, err := strconv.ParseInt(v, 10, 32)
		q.note(err)
		ports = append(ports, int32(n))
	}
	return ports
}
