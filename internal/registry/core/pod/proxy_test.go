package pod

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/registry/rest"

	"podium.dev/podium/internal/registry/kit/httpproxy"
)

func podAt(ips ...string) *corev1.Pod {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "a"}, {Name: "b", Ports: []corev1.ContainerPort{{ContainerPort: 8080}, {ContainerPort: 9090}}},
	}}}
	for _, ip := range ips {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	return pod
}

func TestProxyLocation(t *testing.T) {
	silent := podAt("10.0.0.7")
	silent.Spec.Containers = silent.Spec.Containers[:1]
	silent6 := podAt("fd00::7")
	silent6.Spec.Containers = silent6.Spec.Containers[:1]
	r := address{pods: podMap{
		"p": podAt("10.0.0.7", "fd00::7"), "six": podAt("fd00::7"), "silent": silent, "silent6": silent6,
		"new": podAt(), "loop": podAt("127.0.0.1"), "link": podAt("169.254.169.254"), "odd": podAt("x"),
	}}
	for _, tc := range []struct{ id, want string }{
		{"p", "//10.0.0.7:8080"},
		{"p:81", "//10.0.0.7:81"},
		{"http:p:81", "http://10.0.0.7:81"},
		{"https:p:", "https://10.0.0.7:8080"},
		{"https:p:443", "https://10.0.0.7:443"},
		{"six", "//[fd00::7]:8080"},
		{"silent", "//10.0.0.7"},
		{"silent6", "//[fd00::7]"},
		{"ftp:p:21", `invalid pod request "ftp:p:21"`},
		{"a:b:c:d", `invalid pod request "a:b:c:d"`},
		{"nobody", `pods "nobody" not found`},
		{"new", "address not allowed"},
		{"loop", "address not allowed"},
		{"link", "address not allowed"},
		{"odd", "address not allowed"},
	} {
		location, _, err := r.locate(context.Background(), tc.id)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = location.String()
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.id, got, tc.want)
		}
	}
}

// elsewhere sends every request to one server, whatever its address.
type elsewhere struct{ to *url.URL }

// RoundTrip implements http.RoundTripper.
func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Was", r.URL.String())
	r.URL.Scheme, r.URL.Host = e.to.Scheme, e.to.Host
	return http.DefaultTransport.RoundTrip(r)
}

func TestProxyPassesOn(t *testing.T) {
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		w.Write([]byte(r.Method + " " + r.Header.Get("Was")))
	}))
	defer behind.Close()
	to, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&front{storages: map[string]rest.Storage{"proxy": httpproxy.New(&corev1.PodProxyOptions{}, address{pods: podMap{"p": podAt("10.0.0.7")}, transport: elsewhere{to}}.locate)}})
	defer server.Close()
	for _, tc := range []struct{ method, path, want string }{
		{"GET", "/p/proxy/", "GET http://10.0.0.7:8080/"},
		{"GET", "/p/proxy/a/b/?q=1", "GET http://10.0.0.7:8080/a/b/?q=1"},
		{"DELETE", "/p/proxy/a", "DELETE http://10.0.0.7:8080/a"},
	} {
		code, text := answer(t, tc.method, server.URL+tc.path)
		if code != http.StatusTeapot || text != tc.want {
			t.Errorf("%s %s: %d %q, want %q", tc.method, tc.path, code, text, tc.want)
		}
	}
	if code, text := answer(t, "GET", server.URL+"/nobody/proxy/"); code != 404 || !strings.Contains(text, "not found") {
		t.Errorf("nobody: %d %s", code, text)
	}
}
