package why

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// probed returns the probes of a running container that keep it from being ready or have caused restarts, with
// their last result.
func (f *Facts) probed(c *corev1.ContainerStatus, spec *corev1.Container) []Finding {
	var out []Finding
	switch {
	case c.Started != nil && !*c.Started && spec.StartupProbe != nil:
		out = append(out, f.failing(c, "Startup", spec.StartupProbe,
			"the other probes do not start before it succeeds; raise failureThreshold × periodSeconds if the program needs longer to start"))
	case !c.Ready && spec.ReadinessProbe != nil:
		out = append(out, f.failing(c, "Readiness", spec.ReadinessProbe, "no traffic is sent to it before it succeeds; the container's log may show what it waits for"))
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
		finding.Fix = "make the program respond in time, raise timeoutSeconds or failureThreshold, or add a startupProbe if it needs long to start"
		out = append(out, finding)
	}
	return out
}

// failing returns the finding about a probe that does not succeed.
func (f *Facts) failing(c *corev1.ContainerStatus, kind string, p *corev1.Probe, fix string) Finding {
	out := Finding{About: AboutProbe, Object: c.Name, Reason: "Unhealthy", Fix: fix}
	out.Message = fmt.Sprintf("its %s probe (%s) has not succeeded", strings.ToLower(kind), describeProbe(p))
	e := f.answer(c.Name, kind)
	if e == nil {
		out.Message += "; it has no result yet"
		if c.State.Running != nil {
			out.Since = since(c.State.Running.StartedAt)
		}
		return out
	}
	_, text, ok := strings.Cut(e.Message, ": ")
	if !ok {
		text = e.Message
	}
	out.Message += "; the last result: " + strings.TrimSpace(text)
	if e.Count > 1 {
		out.Message += fmt.Sprintf(" (%d times)", e.Count)
	}
	out.Since = seen(e)
	return out
}

// answer returns the latest event about a probe of this kind of the container, or nil if there is none.
func (f *Facts) answer(container, kind string) *corev1.Event {
	for _, e := range f.events("Unhealthy") {
		path := e.InvolvedObject.FieldPath
		if strings.HasPrefix(e.Message, kind+" probe") && (path == "" || strings.HasSuffix(path, "{"+container+"}")) {
			return &e
		}
	}
	return nil
}

// describeProbe describes what a probe does and how often.
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
	return fmt.Sprintf("%s every %ds, timeout %ds", what, max(p.PeriodSeconds, 1), max(p.TimeoutSeconds, 1))
}
