package pod

import (
	"context"
	"io"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericrest "k8s.io/apiserver/pkg/registry/generic/rest"
	"k8s.io/utils/ptr"
)

func TestLogAsksTheNode(t *testing.T) {
	node := newFakeNode(t)
	logs := &logREST{reach{pods: somePods(), nodes: node}}
	for _, tc := range []struct {
		pod     string
		options corev1.PodLogOptions
		seen    string
	}{
		{"one", corev1.PodLogOptions{}, "/containerLogs/n/one/c?"},
		{"one", corev1.PodLogOptions{InsecureSkipTLSVerifyBackend: true}, "/containerLogs/n/one/c?"},
		{"two", corev1.PodLogOptions{Container: "e", Follow: true, Previous: true, Timestamps: true}, "/containerLogs/n/two/e?follow=true&previous=true&timestamps=true"},
		{"two", corev1.PodLogOptions{Container: "i", TailLines: ptr.To[int64](0), LimitBytes: ptr.To[int64](9), SinceSeconds: ptr.To[int64](60)}, "/containerLogs/n/two/i?limitBytes=9&sinceSeconds=60&tailLines=0"},
		{"one", corev1.PodLogOptions{SinceTime: ptr.To(metav1.NewTime(now.In(time.FixedZone("east", 3600))))}, "/containerLogs/n/one/c?sinceTime=2026-03-14T16%3A09%3A26%2B01%3A00"},
	} {
		obj, err := logs.Get(context.Background(), tc.pod, &tc.options)
		if err != nil {
			t.Errorf("%s: %v", tc.seen, err)
			continue
		}
		stream, flush, mime, err := obj.(*genericrest.LocationStreamer).InputStream(context.Background(), "v1", "")
		if err != nil {
			t.Errorf("%s: %v", tc.seen, err)
			continue
		}
		text, err := io.ReadAll(stream)
		if err != nil || string(text) != "a line\n" || mime != "text/plain" || flush != tc.options.Follow {
			t.Errorf("%s: %q as %q, flushed %v, %v", tc.seen, text, mime, flush, err)
		}
		if seen := node.lastSeen(); seen != tc.seen {
			t.Errorf("the node was asked for %s, want %s", seen, tc.seen)
		}
	}
}

func TestLogOfPodWithoutNodeIsEmpty(t *testing.T) {
	logs := &logREST{reach{pods: somePods()}}
	obj, err := logs.Get(context.Background(), "nowhere", &corev1.PodLogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if stream, _, _, err := obj.(*genericrest.LocationStreamer).InputStream(context.Background(), "v1", ""); stream != nil || err != nil {
		t.Errorf("got %v, %v", stream, err)
	}
}

func TestLogRefusals(t *testing.T) {
	logs := &logREST{reach{pods: somePods(), nodes: newFakeNode(t)}}
	for _, tc := range []struct {
		pod     string
		options corev1.PodLogOptions
		want    string
	}{
		{"nobody", corev1.PodLogOptions{}, `pods "nobody" not found`},
		{"lost", corev1.PodLogOptions{}, `nodes "gone" not found`},
		{"two", corev1.PodLogOptions{}, "a container name must be specified for pod two, choose one of: [i a b e]"},
		{"two", corev1.PodLogOptions{Container: "x"}, "container x is not valid for pod two"},
		{"none", corev1.PodLogOptions{}, "a container name must be specified for pod none"},
		{"one", corev1.PodLogOptions{TailLines: ptr.To[int64](-1)}, `PodLogOptions "one" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0`},
		{"one", corev1.PodLogOptions{LimitBytes: ptr.To[int64](0)}, `PodLogOptions "one" is invalid: limitBytes: Invalid value: 0: must be greater than 0`},
		{"one", corev1.PodLogOptions{SinceSeconds: ptr.To[int64](0)}, `PodLogOptions "one" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0`},
		{"one", corev1.PodLogOptions{SinceSeconds: ptr.To[int64](5), SinceTime: ptr.To(metav1.NewTime(now))},
			"PodLogOptions \"one\" is invalid: []: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"},
		{"one", corev1.PodLogOptions{Stream: ptr.To("All")}, `PodLogOptions "one" is invalid: stream: Forbidden: may not be specified`},
	} {
		if _, err := logs.Get(context.Background(), tc.pod, &tc.options); err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v, want %s", tc.pod, err, tc.want)
		}
	}
	unreachable := &logREST{reach{pods: somePods()}}
	if _, err := unreachable.Get(context.Background(), "one", &corev1.PodLogOptions{}); err == nil {
		t.Error("there is a log without a way to the node")
	}
}
