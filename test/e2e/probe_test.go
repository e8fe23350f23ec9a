package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// countOf is how often an event of a Pod with the reason, whose message has the text, was told.
func (s *space) countOf(name, reason, text string) (n int32) {
	s.Helper()
	events, err := s.node.client.CoreV1().Events(s.ns).List(s.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
	if err != nil {
		s.Error(err)
	}
	for _, e := range events.Items {
		if e.Reason == reason && strings.Contains(e.Message, text) {
			n += e.Count
		}
	}
	return n
}

// The tutorial's liveness probe, as it is written there and with shorter times: a page that is gone restarts
// the container, and the Pod keeps its address and its volumes.
func TestLivenessProbeOfTheTutorial(t *testing.T) {
	s := newSpace(t)
	const literal = `apiVersion: v1
kind: Pod
metadata: {name: literal}
spec:
  containers:
  - name: nginx
    image: nginx
    livenessProbe:
      httpGet: {path: /, port: 80}
      initialDelaySeconds: 15
      periodSeconds: 20
      timeoutSeconds: 1
      successThreshold: 1
      failureThreshold: 3
`
	if out, err := s.tryInput(literal, "create", "--dry-run=server", "-f", "-"); err != nil {
		s.Errorf("the manifest as it is written: %v\n%s", err, out)
	}
	pod := shellPod("web", "")
	pod.Spec.Volumes = []corev1.Volume{{Name: "kept", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pod.Spec.Containers[0] = corev1.Container{
		Name: "nginx", Image: webImage, VolumeMounts: []corev1.VolumeMount{{Name: "kept", MountPath: "/kept"}},
		LivenessProbe: &corev1.Probe{
			ProbeHandler:        corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(80)}},
			InitialDelaySeconds: 1, PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
		},
	}
	s.create(pod)
	before := s.awaitRunning("web")
	s.kubectl("exec", "web", "--", "sh", "-c", "echo still here > /kept/x; rm /usr/share/nginx/html/index.html")
	after := s.await("web", "restarted", func(p *corev1.Pod) bool {
		return p.Status.ContainerStatuses[0].RestartCount == 1 && isReady(p)
	})
	s.says([]string{"get", "pod", "web"}, "1/1", "Running", "1 (")
	s.says([]string{"exec", "web", "--", "cat", "/kept/x"}, "still here")
	if after.Status.PodIP != before.Status.PodIP {
		s.Errorf("the address changed from %s to %s", before.Status.PodIP, after.Status.PodIP)
	}
	if end := after.Status.ContainerStatuses[0].LastTerminationState.Terminated; end == nil || end.Reason != "Completed" {
		s.Errorf("the last run: %s, want one that ended on SIGTERM", describe(after))
	}
	const unhealthy = "Liveness probe failed: HTTP probe failed with statuscode: 403"
	s.eventually("each failure is counted", func() error {
		if n := s.countOf("web", "Unhealthy", unhealthy); n != 3 {
			return fmt.Errorf("%d, want 3", n)
		}
		return nil
	})
	s.eventuallyEvent("web", "Killing", "Container nginx failed liveness probe, will be restarted")
}

// A server that fails from its fifth answer on is restarted again and again, with a wait in between.
func TestLivenessProbeFailsForEver(t *testing.T) {
	s := newSpace(t)
	const lives = 5 // requests, the last of which kills
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1)%lives == 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	s.Cleanup(server.Close)
	pod := shellPod("sick", "exec sleep 3600")
	pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: httpProbe(server.URL), PeriodSeconds: 1, FailureThreshold: 1}
	s.create(pod)
	s.await("sick", "restarted twice at once, as the node has ended it", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount == 2
	})
	held := s.await("sick", "held back", func(p *corev1.Pod) bool {
		w := p.Status.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == "CrashLoopBackOff"
	})
	if w := held.Status.ContainerStatuses[0].State.Waiting; !strings.HasPrefix(w.Message, "back-off 10s restarting failed container=c0 pod=sick_"+s.ns+"(") {
		s.Errorf("it waits: %q", w.Message)
	}
	s.says([]string{"get", "pod", "sick"}, "0/1", "CrashLoopBackOff")
	s.await("sick", "restarted again", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount == 3 })
	s.eventuallyEvent("sick", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500")
	s.eventuallyEvent("sick", "BackOff", "Back-off restarting failed container c0 in pod sick_"+s.ns)
}

// httpProbe asks a server of the machine.
func httpProbe(url string) corev1.ProbeHandler {
	scheme, address, _ := strings.Cut(url, "://")
	host, port, _ := net.SplitHostPort(address)
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Scheme: corev1.URIScheme(strings.ToUpper(scheme)), Host: host, Port: intstr.Parse(port), Path: "/",
	}}
}

// Every kind of probe, well and not, each of a container of its own in one Pod.
func TestKindsOfProbes(t *testing.T) {
	s := newSpace(t)
	asked := make(chan string, 1)
	web := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/elsewhere":
			http.Redirect(w, r, "http://example.com/", http.StatusFound)
		case "/hang":
			<-r.Context().Done()
		case "/headers":
			select {
			case asked <- r.Host + " " + r.UserAgent() + " " + r.Header.Get("X-Test"):
			default:
			}
		}
	})
	plain, secure := httptest.NewServer(web), httptest.NewUnstartedServer(web)
	secure.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	secure.StartTLS()
	s.Cleanup(plain.Close)
	s.Cleanup(secure.Close)
	_, grpcPort := serveHealth(s)

	get := func(url, path string) corev1.ProbeHandler {
		h := httpProbe(url)
		h.HTTPGet.Path = path
		return h
	}
	headers := get(plain.URL, "/headers")
	headers.HTTPGet.HTTPHeaders = []corev1.HTTPHeader{{Name: "Host", Value: "a.host"}, {Name: "X-Test", Value: "yes"}}
	at := httpProbe(plain.URL).HTTPGet
	good, lost := "good", "lost"
	probes := map[string]struct {
		probe corev1.ProbeHandler
		fails string // what an event says of it
	}{
		"http":       {get(plain.URL, "/"), ""},
		"https":      {get(secure.URL, "/"), ""},
		"headers":    {headers, ""},
		"elsewhere":  {get(plain.URL, "/elsewhere"), ""},
		"hang":       {get(plain.URL, "/hang"), "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"},
		"tcp":        {corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Host: at.Host, Port: at.Port}}, ""},
		"tcp-closed": {corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Host: at.Host, Port: intstr.FromInt32(1)}}, "connect: connection refused"},
		"exec":       {execAction("true"), ""},
		"exec-fails": {execAction("echo no good; exit 3"), "no good"},
		"exec-slow":  {execAction("sleep 4321"), `command timed out: "sh -c sleep 4321" timed out after 1s`},
		"grpc":       {corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: grpcPort, Service: &good}}, ""},
		"grpc-fails": {corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: grpcPort, Service: &lost}}, `service unhealthy (responded with "NOT_SERVING")`},
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Spec: corev1.PodSpec{HostNetwork: true}}
	for name, p := range probes {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
			Name: name, Image: shellImage, Command: []string{"sleep", "3600"},
			ReadinessProbe: &corev1.Probe{ProbeHandler: p.probe, PeriodSeconds: 1, TimeoutSeconds: 1},
		})
	}
	s.create(pod)
	s.await("all", "ready as far as its probes succeed", func(p *corev1.Pod) bool {
		for _, c := range p.Status.ContainerStatuses {
			if c.Ready != (probes[c.Name].fails == "") {
				return false
			}
		}
		return len(p.Status.ContainerStatuses) == len(probes)
	})
	for name, p := range probes {
		if p.fails != "" {
			s.eventuallyEvent("all", "Unhealthy", p.fails)
			s.eventuallyEvent("all", "Unhealthy", "Readiness probe failed: ")
		}
		if name == "elsewhere" {
			s.eventuallyEvent("all", "ProbeWarning", "Readiness probe warning: Probe terminated redirects")
		}
	}
	select {
	case got := <-asked:
		if got != "a.host kube-probe/1.37 yes" {
			s.Errorf("the server was asked by %q", got)
		}
	default:
		s.Error("the server was not asked with headers")
	}
	// The command of a probe that took too long is gone.
	s.eventually("no command of a probe is left", func() error {
		if out := s.kubectl("exec", "all", "-c", "exec-slow", "--", "sh", "-c", "ps | grep -c '[s]leep 4321' || true"); strings.TrimSpace(out) > "1" {
			return fmt.Errorf("%s of them run", strings.TrimSpace(out))
		}
		return nil
	})
}

// serveHealth serves gRPC's health protocol on all addresses of the machine: "good" is well, "lost" is not.
func serveHealth(s *space) (*grpc.Server, int32) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		s.Fatal(err)
	}
	state := health.NewServer()
	state.SetServingStatus("good", healthpb.HealthCheckResponse_SERVING)
	state.SetServingStatus("lost", healthpb.HealthCheckResponse_NOT_SERVING)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, state)
	go func() { _ = server.Serve(l) }()
	s.Cleanup(server.Stop)
	return server, int32(l.Addr().(*net.TCPAddr).Port)
}

// A Pod with a readiness gate is ready when its containers are and somebody has set the condition.
func TestReadinessGate(t *testing.T) {
	s := newSpace(t)
	const gate = corev1.PodConditionType("example.com/open")
	pod := shellPod("gated", "exec sleep 3600")
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}}
	s.create(pod)
	shut := s.await("gated", "held back by its gate", func(p *corev1.Pod) bool {
		return conditionOf(p, corev1.ContainersReady).Status == corev1.ConditionTrue
	})
	if c := conditionOf(shut, corev1.PodReady); c.Status != corev1.ConditionFalse || c.Reason != "ReadinessGatesNotReady" ||
		c.Message != `corresponding condition of pod readiness gate "example.com/open" does not exist.` {
		s.Errorf("the gate is shut: %+v", c)
	}
	s.says([]string{"get", "pod", "gated", "-o", "wide"}, "0/1")
	for _, status := range []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse} {
		s.setCondition("gated", corev1.PodCondition{Type: gate, Status: status})
		s.await("gated", "ready as its gate is "+string(status), func(p *corev1.Pod) bool { return isReady(p) == (status == corev1.ConditionTrue) })
	}
}

func conditionOf(p *corev1.Pod, t corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c
		}
	}
	return corev1.PodCondition{}
}

// setCondition sets a condition of a Pod as a controller does.
func (s *space) setCondition(name string, c corev1.PodCondition) {
	s.Helper()
	s.eventually(fmt.Sprintf("condition %s of Pod %s is set", c.Type, name), func() error {
		pods := s.node.client.CoreV1().Pods(s.ns)
		p, err := pods.Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		var kept []corev1.PodCondition
		for _, old := range p.Status.Conditions {
			if old.Type != c.Type {
				kept = append(kept, old)
			}
		}
		p.Status.Conditions = append(kept, c)
		_, err = pods.UpdateStatus(context.WithoutCancel(s.ctx), p, metav1.UpdateOptions{})
		return err
	})
}

// A probe's own grace period counts for what the probe kills.
func TestGraceOfAProbe(t *testing.T) {
	s := newSpace(t)
	pod := shellPod("stubborn", "trap '' TERM; while true; do sleep 0.05; done")
	hour, second := int64(3600), int64(1)
	pod.Spec.TerminationGracePeriodSeconds = &hour
	pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{
		ProbeHandler: execAction("exit 1"), PeriodSeconds: 1, FailureThreshold: 1, TerminationGracePeriodSeconds: &second,
	}
	s.create(pod)
	killed := s.await("stubborn", "killed", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].LastTerminationState.Terminated != nil
	})
	if end := killed.Status.ContainerStatuses[0].LastTerminationState.Terminated; end.ExitCode != 137 {
		s.Errorf("it ended with %d, want 137: %s", end.ExitCode, describe(killed))
	}
}
