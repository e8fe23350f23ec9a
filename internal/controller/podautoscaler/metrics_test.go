package podautoscaler

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
)

// served are the answers of an API server with both APIs that clusters add, by path.
var served = map[string]string{
	"/api":  `{"kind": "APIVersions", "versions": ["v1"]}`,
	"/apis": `{"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": "custom.metrics.k8s.io", "versions": [{"groupVersion": "custom.metrics.k8s.io/v1beta2", "version": "v1beta2"}], "preferredVersion": {"groupVersion": "custom.metrics.k8s.io/v1beta2", "version": "v1beta2"}}]}`,
	"/api/v1": `{"kind": "APIResourceList", "groupVersion": "v1", "resources": [{"name": "pods", "namespaced": true, "kind": "Pod"},
		{"name": "services", "namespaced": true, "kind": "Service"}, {"name": "namespaces", "kind": "Namespace"}]}`,
	"/apis/custom.metrics.k8s.io/v1beta2": `{"kind": "APIResourceList", "groupVersion": "custom.metrics.k8s.io/v1beta2", "resources": []}`,
	"/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods": `{"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "items": [
		{"metadata": {"name": "p0"}, "timestamp": "2026-03-10T12:00:00Z", "window": "30s", "containers": [{"name": "c", "usage": {"cpu": "100m", "memory": "1Mi"}}, {"name": "d", "usage": {"cpu": "20m", "memory": "1Mi"}}]},
		{"metadata": {"name": "p1"}, "timestamp": "2026-03-10T12:00:00Z", "window": "30s", "containers": [{"name": "c", "usage": {"cpu": "100m"}}, {"name": "e", "usage": {}}]},
		{"metadata": {"name": "p2"}, "timestamp": "2026-03-10T12:00:00Z", "window": "30s", "containers": []}]}`,
	"/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/*/m": `{"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "items": [
		{"describedObject": {"kind": "Pod", "name": "p0"}, "metric": {"name": "m"}, "timestamp": "2026-03-10T12:00:00Z", "value": "5"},
		{"describedObject": {"kind": "Pod", "name": "p1"}, "metric": {"name": "m"}, "timestamp": "2026-03-10T12:00:00Z", "windowSeconds": 7, "value": "7"}]}`,
	"/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/services/s/m": `{"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "items": [
		{"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"}, "timestamp": "2026-03-10T12:00:00Z", "value": "9"}]}`,
	"/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/metrics/m": `{"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "items": [
		{"describedObject": {"kind": "Namespace", "name": "ns"}, "metric": {"name": "m"}, "timestamp": "2026-03-10T12:00:00Z", "value": "11"}]}`,
	"/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/queue": `{"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "items": [
		{"metricName": "queue", "timestamp": "2026-03-10T12:00:00Z", "value": "3"}, {"metricName": "queue", "timestamp": "2026-03-10T12:00:00Z", "value": "500m"}]}`,
	"/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/empty": `{"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "items": []}`,
}

func TestMetricsOfEveryAPI(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		text, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, text)
	}))
	defer server.Close()
	clients, err := NewClients(&rest.Config{Host: server.URL})
	if err != nil || len(asked) > 0 {
		t.Fatalf("new clients: %v, and asked %v", err, asked)
	}
	m := newAPIMetrics(clients, clocktesting.NewFakePassiveClock(noon))
	web := labels.SelectorFromSet(labels.Set{"app": "web"})
	of := func(kind, name string) autoscalingv2.CrossVersionObjectReference {
		return autoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: kind, Name: name}
	}
	for name, tt := range map[string]struct {
		read func() (any, error)
		want string
	}{
		"cpu":                  {func() (any, error) { return m.resource(t.Context(), "ns", "cpu", "", web) }, fmt.Sprint(samples{"p0": {120, noon, 30 * time.Second}})},
		"cpu of a container":   {func() (any, error) { return m.resource(t.Context(), "ns", "cpu", "c", web) }, fmt.Sprint(samples{"p0": {100, noon, 30 * time.Second}, "p1": {100, noon, 30 * time.Second}})},
		"cpu elsewhere":        {func() (any, error) { return m.resource(t.Context(), "other", "cpu", "", web) }, "unable to fetch metrics from resource metrics API"},
		"a metric of Pods":     {func() (any, error) { return m.ofPods("ns", "m", web, labels.Everything()) }, fmt.Sprint(samples{"p0": {5000, noon, customWindow}, "p1": {7000, noon, 7 * time.Second}})},
		"of an object":         {func() (any, error) { return m.ofObject("ns", "m", of("Service", "s"), labels.Everything()) }, "9000"},
		"of its own namespace": {func() (any, error) { return m.ofObject("ns", "m", of("Namespace", "kube-system"), labels.Everything()) }, "11000"},
		"of an unknown kind":   {func() (any, error) { return m.ofObject("ns", "m", of("Nope", "s"), labels.Everything()) }, `unable to fetch metrics from custom metrics API: unable to map kind Nope to resource: no matches for kind "Nope" in group ""`},
		"external":             {func() (any, error) { return m.external("ns", "queue", web) }, "[3000 500]"},
		"external, none":       {func() (any, error) { return m.external("ns", "empty", web) }, "no metrics returned from external metrics API"},
		"external, not there":  {func() (any, error) { return m.external("ns", "nope", web) }, "the server could not find the requested resource (get nope.external.metrics.k8s.io)"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tt.read()
			if all, ok := got.(samples); ok {
				for name, one := range all {
					one.at = one.at.UTC()
					all[name] = one
				}
			}
			text := fmt.Sprint(got)
			if err != nil {
				text = err.Error()
			}
			if !strings.Contains(text, tt.want) {
				t.Errorf("%s, want %s; asked %v", text, tt.want, asked)
			}
		})
	}
}
