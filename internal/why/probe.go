package why

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// probed says which probes of a running container keep it from being ready, or have had it restarted, and
// what they were answered last.
func (f *Facts) probed(c *corev1.ContainerStatus, spec *corev1.Container) []Finding {
	var out []Finding
	switch {
	case c.Started != nil && !*c.Started && spec.StartupProbe != nil:
		out = append(out, f.failing(c, "Startup", spec.StartupProbe,
			"the other probes do not begin before it succeeds; raise failureThreshold × periodSeconds if the program needs longer to start"))
	case !c.Ready && spec.ReadinessProbe != nil:
		out = append(out, f.failing(c, "Readiness", spec.ReadinessProbe, "no traffic is sent to it before it succeeds; its log says what it waits for"))
	}
	if spec.LivenessProbe == nil {
		return out
	}
	if e := f.answer(c.Name, "Liveness"); e != nil {
		finding := f.failing(c, "Liveness", spec.LivenessProbe, "")
		finding.Message += fmt.Sprintf("; after %s in a row the container is restarted", plural(int(max(spec.LivenessProbe.FailureThreshold, 1)), "failure", "failures"))
		if c.RestartCount > 0 {
			finding.Message += fmt.Sprintf(" (%s so far)", plural(int(c.RestartCount), "restart", "restarts"))
		}
		finding.Mend = "have the program answer in time, raise timeoutSeconds or failureThreshold, or give it a startupProbe when it needs long to start"
		out = append(out, finding)
	}
	return out
}

// failing is what is known of a probe that does not succeed.
func (f *Facts) failing(c *corev1.ContainerStatus, kind string, p *corev1.Probe, mend string) Finding {
	out := Finding{About: AboutProbe, Object: c.Name, Reason: "Unhealthy", Mend: mend}
	out.Message = fmt.Sprintf("its %s probe (%s) has not succeeded", strings.ToLower(kind), describeProbe(p))
	e := f.answer(c.Name, kind)
	if e == nil {
		out.Message += "; no answer of it is known yet"
		if c.State.Running != nil {
			out.Since = since(c.State.Running.StartedAt)
		}
		return out
	}
	_, text, ok := strings.Cut(e.Message, ": ")
	if !ok {
		text = e.Message
	}
	out.Message += "; the last answer: " + strings.TrimSpace(text)
	if e.Count > 1 {
		out.Message += fmt.Sprintf(" (%d times)", e.Count)
	}
	out.Since = seen(e)
	return out
}

// answer is the latest event about a probe of this kind of the container, nil for none.
func (f *Facts) answer(container, kind string) *corev1.Event {
	for _, e := range f.events("Unhealthy") {
		path := e.InvolvedObject.FieldPath
		if strings.HasPrefix(e.Message, kind+" probe") && (path == "" || strings.HasSuffix(path, "{"+container+"}")) {
			return &e
		}
	}
	return nil
}

// describeProbe says what a probe asks and how often.
func describeProbe(p *corev1.Probe) string {
	what := "exec"
	switch h := p.ProbeHandler; {
	case h.HTTPGet != nil:
		scheme := strings.ToLower(string(h.HTTPGet.Scheme))
		if scheme == "" {
			scheme = "http"
		}
		path := h.HTTPGet.Path
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		what = fmt.Sprintf("GET %s://%s:%s%s", scheme, h.HTTPGet.Host, h.HTTPGet.Port.String(), path)
	case h.TCPSocket != nil:
		what = fmt.Sprintf("TCP %s:%s", h.TCPSocket.Host, h.TCPSocket.Port.String())
	case h.GRPC != nil:
		what = fmt.Sprintf("gRPC :%d", h.GRPC.Port)
	case h.Exec != nil:
		what = "exec " + strings.Join(h.Exec.Command, " ")
	}
	return fmt.Sprintf("%s every %ds, %ds to answer", what, max(p.PeriodSeconds, 1), max(p.TimeoutSeconds, 1))
}
