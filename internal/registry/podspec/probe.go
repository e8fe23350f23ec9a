package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// livenessProbe judges a liveness or a startup probe: one success is enough.
func (c *checker) livenessProbe(p *corev1.Probe, at *field.Path) {
	if p == nil {
		return
	}
	c.probe(p, at)
	if p.SuccessThreshold != 1 {
		c.Invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1")
	}
}

// readinessProbe judges a readiness probe: it never ends the container.
func (c *checker) readinessProbe(p *corev1.Probe, at *field.Path) {
	if p == nil {
		return
	}
	c.probe(p, at)
	if p.TerminationGracePeriodSeconds != nil {
		c.Invalid(at.Child("terminationGracePeriodSeconds"), *p.TerminationGracePeriodSeconds, "must not be set for readinessProbes")
	}
}

func (c *checker) probe(p *corev1.Probe, at *field.Path) {
	c.handler(handler{exec: p.Exec, httpGet: p.HTTPGet, tcpSocket: p.TCPSocket, grpc: p.GRPC}, at)
	for _, f := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds}, {"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold},
	} {
		c.Add(apivalidation.ValidateNonnegativeField(int64(f.value), at.Child(f.name))...)
	}
	if grace := p.TerminationGracePeriodSeconds; grace != nil && *grace <= 0 {
		c.Invalid(at.Child("terminationGracePeriodSeconds"), *grace, "must be greater than 0")
	}
}

func (c *checker) lifecycle(l *corev1.Lifecycle, at *field.Path) {
	for _, hook := range []struct {
		name string
		do   *corev1.LifecycleHandler
	}{{"postStart", l.PostStart}, {"preStop", l.PreStop}} {
		if h := hook.do; h != nil {
			c.handler(handler{exec: h.Exec, httpGet: h.HTTPGet, tcpSocket: h.TCPSocket, sleep: h.Sleep}, at.Child(hook.name))
		}
	}
	if l.StopSignal != nil {
		c.stopSignal(*l.StopSignal, at.Child("stopSignal"))
	}
}

// handler is what a probe or a hook does; exactly one of the fields is set.
type handler struct {
	exec      *corev1.ExecAction
	httpGet   *corev1.HTTPGetAction
	tcpSocket *corev1.TCPSocketAction
	grpc      *corev1.GRPCAction
	sleep     *corev1.SleepAction
}

func (c *checker) handler(h handler, at *field.Path) {
	types := &alternatives{c: c, path: at, what: "handler type"}
	types.is(h.exec != nil, "exec", func() {
		if len(h.exec.Command) == 0 {
			c.Required(at.Child("exec", "command"), "")
		}
	})
	types.is(h.httpGet != nil, "httpGet", func() { c.httpGet(h.httpGet, at.Child("httpGet")) })
	types.is(h.tcpSocket != nil, "tcpSocket", func() { c.portNumberOrName(h.tcpSocket.Port, at.Child("tcpSocket", "port")) })
	types.is(h.grpc != nil, "grpc", func() { c.portNumberOrName(intstr.FromInt32(h.grpc.Port), at.Child("grpc", "port")) })
	types.is(h.sleep != nil, "sleep", func() { c.sleep(h.sleep, at.Child("sleep")) })
	if !types.taken {
		c.Required(at, "must specify a handler type")
	}
}

func (c *checker) httpGet(get *corev1.HTTPGetAction, at *field.Path) {
	c.needs(get.Path, at.Child("path"))
	c.portNumberOrName(get.Port, at.Child("port"))
	fielderrors.OneOf(&c.List, at.Child("scheme"), get.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
	for _, header := range get.HTTPHeaders {
		c.InvalidEach(at.Child("httpHeaders"), header.Name, validation.IsHTTPHeaderName(header.Name))
	}
}

func (c *checker) portNumberOrName(port intstr.IntOrString, at *field.Path) {
	switch port.Type {
	case intstr.Int:
		c.InvalidEach(at, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
	case intstr.String:
		c.InvalidEach(at, port.StrVal, validation.IsValidPortName(port.StrVal))
	default:
		c.Add(field.InternalError(at, fmt.Errorf("unknown type: %v", port.Type)))
	}
}

// sleep wants a hook not to sleep longer than the Pod has to end. Where that time is missing, that alone is told.
func (c *checker) sleep(s *corev1.SleepAction, at *field.Path) {
	if grace := c.spec.TerminationGracePeriodSeconds; grace != nil && (s.Seconds < 0 || s.Seconds > *grace) {
		c.Invalid(at, s.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace))
	}
}
