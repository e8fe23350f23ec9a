package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// The API server passes HTTP on to a Pod, and to a Pod that stands behind a Service.
func TestProxies(t *testing.T) {
	s := newSpace(t)
	s.kubectl("run", "web", "--image="+webImage, "--port=80", "--expose")
	s.awaitRunning("web")
	base := "/api/v1/namespaces/" + s.ns
	for _, path := range []string{"/pods/web/proxy/", "/pods/web:80/proxy/", "/services/web/proxy/", "/services/http:web:80/proxy/"} {
		s.eventually(path+" answers", func() error {
			if out, err := s.try("get", "--raw", base+path); err != nil || !strings.Contains(out, "<html") {
				return fmt.Errorf("%q, %v", out, err)
			}
			return nil
		})
	}
	s.refused([]string{"get", "--raw", base + "/services/web:81/proxy/"}, `no service port 81 found for service "web"`)
	s.refused([]string{"get", "--raw", base + "/services/none/proxy/"}, `no endpoints available for service "none"`)
	s.kubectl("create", "service", "clusterip", "empty", "--tcp=80")
	s.refused([]string{"get", "--raw", base + "/services/empty:80/proxy/"}, `no endpoints available for service "empty"`)
}
