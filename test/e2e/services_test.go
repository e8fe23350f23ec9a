package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// namesItself is a Pod that answers its name, by HTTP on 8080.
func namesItself(name string) *corev1.Pod {
	p := shellPod(name, `mkdir /tmp/www && hostname >/tmp/www/index.html && exec busybox httpd -f -p 8080 -h /tmp/www`)
	p.Labels = map[string]string{"app": "web"}
	c := &p.Spec.Containers[0]
	c.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
	c.ReadinessProbe = &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}, PeriodSeconds: 1,
	}
	return p
}

// service makes a Service for the Pods above, with named target ports.
func (s *space) service(name string, change func(*corev1.ServiceSpec)) *corev1.Service {
	s.Helper()
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app": "web"},
		Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, TargetPort: intstr.FromString("http")},
		},
	}}
	if change != nil {
		change(&o.Spec)
	}
	made, err := s.node.client.CoreV1().Services(s.ns).Create(s.ctx, o, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return made
}

// fromNode asks by HTTP from the node itself, each time by a new connection.
func fromNode(at string) (string, error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := c.Get("http://" + at + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		return "", err
	}
	_, body, _ := strings.Cut(b.String(), "\r\n\r\n")
	return strings.TrimSpace(body), nil
}

// fromPod asks by HTTP from a Pod.
func (s *space) fromPod(pod, at string) (string, error) {
	out, err := s.try("exec", pod, "--", "curl", "-s", "-S", "-m", "5", "http://"+at+"/")
	return strings.TrimSpace(out), err
}

// answers waits until all of these names answer, and nothing else does.
func (s *space) answers(what string, ask func() (string, error), names ...string) {
	s.Helper()
	s.eventually(what, func() error {
		seen := map[string]bool{}
		for range 12 * len(names) {
			got, err := ask()
			if err != nil {
				return err
			}
			seen[got] = true
		}
		if len(seen) != len(names) {
			return fmt.Errorf("%v answer, want %v", seen, names)
		}
		for _, n := range names {
			if !seen[n] {
				return fmt.Errorf("%v answer, want %v", seen, names)
			}
		}
		return nil
	})
}

// Services lead to their Pods: by cluster IP, node port and external address; from Pods, from a Pod to itself and from the
// node; and what they lead to follows the Pods. (The tests of internal/services have UDP and other families.)
func TestServices(t *testing.T) {
	s := newSpace(t)
	for _, name := range []string{"one", "two"} {
		s.create(namesItself(name))
	}
	s.create(shellPod("client", "exec sleep 3600"))
	web := s.service("web", nil)
	one := s.awaitRunning("one")
	s.awaitRunning("two")
	s.awaitRunning("client")
	nodeIP := one.Status.HostIP
	nodePort := net.JoinHostPort(nodeIP, fmt.Sprint(web.Spec.Ports[0].NodePort))
	ip := web.Spec.ClusterIP

	s.answers("the cluster IP from the node", func() (string, error) { return fromNode(ip) }, "one", "two")
	s.answers("the node port from the node", func() (string, error) { return fromNode(nodePort) }, "one", "two")
	for _, from := range []string{"client", "one"} {
		for _, at := range []string{ip, nodePort} {
			if got, err := s.fromPod(from, at); err != nil || got != "one" && got != "two" {
				s.Errorf("%s from %s: %q, %v", at, from, got, err)
			}
		}
	}
	sticky := s.service("sticky", func(c *corev1.ServiceSpec) { c.SessionAffinity = corev1.ServiceAffinityClientIP })
	var first string
	s.eventually("a first answer", func() (err error) { first, err = fromNode(sticky.Spec.ClusterIP); return err })
	for range 20 {
		if got, err := fromNode(sticky.Spec.ClusterIP); err != nil || got != first {
			s.Errorf("with affinity: %q after %q, %v", got, first, err)
		}
	}
	near := s.service("near", func(c *corev1.ServiceSpec) {
		c.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		policy := corev1.ServiceInternalTrafficPolicyLocal
		c.InternalTrafficPolicy = &policy
		c.ExternalIPs = []string{"198.51.100.77"}
	})
	for _, at := range []string{near.Spec.ClusterIP, "198.51.100.77"} {
		s.eventually("an address with the policy Local", func() error { _, err := s.fromPod("client", at); return err })
	}

	// Without endpoints a connection is refused, and at once.
	none := s.service("none", func(c *corev1.ServiceSpec) { c.Selector = map[string]string{"app": "nobody"} })
	s.eventually("a Service without endpoints refuses", func() error {
		c, err := net.DialTimeout("tcp", none.Spec.ClusterIP+":80", 2*time.Second)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("it is not refused: %v", err)
		}
		return nil
	})
	if got, err := s.fromPod("client", none.Spec.ClusterIP); err == nil || !strings.Contains(got+err.Error(), "refused") && !strings.Contains(got+err.Error(), "exit code 7") {
		s.Errorf("from a Pod: %q, %v", got, err)
	}

	s.kubectl("delete", "pod", "one", "--now")
	s.answers("one Pod less", func() (string, error) { return fromNode(ip) }, "two")
	s.create(namesItself("three"))
	s.answers("one Pod more", func() (string, error) { return fromNode(ip) }, "two", "three")
	s.kubectl("delete", "service", "web")
	s.eventually("a deleted Service leads nowhere", func() error {
		c, err := net.DialTimeout("tcp", nodePort, time.Second)
		if err == nil {
			c.Close()
			return errors.New("the node port still answers")
		}
		return nil
	})
}

// Services work while no daemon runs, and what changed meanwhile is made up for at the next start.
func TestServicesOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	n := ownNode(t)
	s := newSpaceOn(t, n)
	s.create(namesItself("one"))
	web := s.service("web", nil)
	one := s.awaitRunning("one")
	at := net.JoinHostPort(one.Status.HostIP, fmt.Sprint(web.Spec.Ports[0].NodePort))
	s.answers("before", func() (string, error) { return fromNode(at) }, "one")
	failed := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(failed)
		for {
			select {
			case <-ended:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if got, err := fromNode(at); err != nil || got != "one" {
				failed <- fmt.Errorf("%q, %w", got, err)
				return
			}
		}
	}()
	for range 2 {
		n.kill(t)
		<-time.After(300 * time.Millisecond)
		if err := n.up(); err != nil {
			t.Fatal(err)
		}
	}
	s.create(namesItself("two"))
	s.awaitRunning("two")
	close(ended)
	if err := <-failed; err != nil && !strings.Contains(err.Error(), `"two"`) {
		t.Errorf("while the daemon was killed and started: %v", err)
	}
	s.answers("after", func() (string, error) { return fromNode(at) }, "one", "two")
}
