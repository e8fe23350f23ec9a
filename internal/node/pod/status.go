package pod

import (
	"net"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/podutil"
)

// The reason and message of a Pod that was active for longer than spec.activeDeadlineSeconds.
const (
	DeadlineExceeded        = "DeadlineExceeded"
	DeadlineExceededMessage = "Pod was active on the node longer than the specified deadline"
)

// Status returns the Pod's status as the node sees it. prev is what it was before: the last answer, or
// the API's status when there is none. The answer may say that the Pod has ended while the last of its
// containers still runs; what the API is told then is Publish's to say.
func Status(p *v1.Pod, prev *v1.PodStatus, o *Observed) v1.PodStatus {
	if o.Orders.Reject != nil {
		return rejected(p, prev, o)
	}
	if o.Orders.Settled {
		// What was told of its end is not told in other words because a daemon has started since: the runtime may have
		// forgotten its containers, and of a Pod that was rejected there never were any.
		return *prev.DeepCopy()
	}
	ending := Ending(p, prev, o)
	r := &reporter{
		pod: p, prev: prev, o: o,
		ended:      ending && o.Quiet(),
		restarting: !ending && restartingAll(p, prev, o),
	}
	st := v1.PodStatus{
		ObservedGeneration:         max(p.Generation, prev.ObservedGeneration),
		QOSClass:                   podutil.QOSClass(p),
		InitContainerStatuses:      r.containers(p.Spec.InitContainers, prev.InitContainerStatuses, initKind),
		ContainerStatuses:          r.containers(p.Spec.Containers, prev.ContainerStatuses, regularKind),
		EphemeralContainerStatuses: r.ephemerals(),
		StartTime:                  startTime(prev, o.Now),
		VolumeHealth:               prev.VolumeHealth,
	}
	r.addresses(&st)
	r.phase(&st)
	if r.ended && o.Work.TearDown.Done {
		r.finish(&st)
	}
	r.podResources(&st)
	r.conditions(&st)
	normalize(p, &st)
	return st
}

// reporter makes one status.
type reporter struct {
	pod  *v1.Pod
	prev *v1.PodStatus
	o    *Observed
	// ended is that the Pod is past its live stage and nothing of it runs.
	ended bool
	// restarting is that the whole Pod is being restarted in place.
	restarting bool
	// resizes is that a container is being replaced by one with other resources.
	resizes bool
}

// rejected is the status of a Pod that the node did not admit.
func rejected(p *v1.Pod, prev *v1.PodStatus, o *Observed) v1.PodStatus {
	st := v1.PodStatus{
		ObservedGeneration: max(p.Generation, prev.ObservedGeneration),
		Phase:              v1.PodFailed,
		Reason:             o.Orders.Reject.Reason,
		Message:            "Pod was rejected: " + o.Orders.Reject.Message,
		QOSClass:           podutil.QOSClass(p),
		StartTime:          startTime(prev, o.Now),
	}
	normalize(p, &st)
	return st
}

// startTime is when the node first saw the Pod; it never changes.
func startTime(prev *v1.PodStatus, now time.Time) *metav1.Time {
	if prev.StartTime != nil && !prev.StartTime.IsZero() {
		return prev.StartTime.DeepCopy()
	}
	t := metav1.NewTime(now)
	return &t
}

// addresses sets the addresses of the node and of the Pod. A Pod that is ending keeps those it had, though
// its sandbox is gone.
func (r *reporter) addresses(st *v1.PodStatus) {
	hosts := r.o.Node.HostIPs
	for i, ip := range hosts {
		if i == 0 {
			st.HostIP = ip
		}
		st.HostIPs = append(st.HostIPs, v1.HostIP{IP: ip})
	}
	for _, ip := range PodIPs(r.o) {
		st.PodIPs = append(st.PodIPs, v1.PodIP{IP: ip})
	}
	if len(st.PodIPs) == 0 && Ending(r.pod, r.prev, r.o) {
		st.PodIPs = r.prev.PodIPs
	}
	if r.pod.Spec.HostNetwork {
		st.PodIPs = hostNetworkIPs(st.PodIPs, hosts)
	}
	if len(st.PodIPs) > 0 {
		st.PodIP = st.PodIPs[0].IP
	}
}

// hostNetworkIPs are the addresses of a Pod in the node's network: once set they stay, but that a second
// family is added when the node gets one.
func hostNetworkIPs(have []v1.PodIP, hosts []string) []v1.PodIP {
	if len(have) == 0 && len(hosts) > 0 {
		have = []v1.PodIP{{IP: hosts[0]}}
	}
	if len(have) == 1 && len(hosts) == 2 && isIPv6(have[0].IP) != isIPv6(hosts[1]) {
		have = append(have[:1:1], v1.PodIP{IP: hosts[1]})
	}
	return have
}

func isIPv6(ip string) bool {
	parsed := net.ParseIP(ip)
	return parsed != nil && parsed.To4() == nil
}

// PodIPs are the addresses of the active sandbox: at most one of each family, that of the node's main
// address first.
func PodIPs(o *Observed) []string {
	sandbox := o.active()
	if sandbox == nil {
		return nil
	}
	six := len(o.Node.HostIPs) > 0 && isIPv6(o.Node.HostIPs[0])
	var ips []string
	for _, family := range []bool{six, !six} {
		for _, ip := range sandbox.IPs {
			if net.ParseIP(ip) != nil && isIPv6(ip) == family {
				ips = append(ips, net.ParseIP(ip).String())
				break
			}
		}
	}
	return ips
}

// phase sets the phase, its reason and its message.
func (r *reporter) phase(st *v1.PodStatus) {
	p, prev := r.pod, r.prev
	st.Phase = r.reckonPhase(st)
	if !podutil.Terminal(st.Phase) {
		switch {
		case podutil.Terminal(prev.Phase):
			st.Phase = prev.Phase
		case podutil.Terminal(p.Status.Phase):
			st.Phase = p.Status.Phase
		}
	}
	if st.Phase == prev.Phase {
		st.Reason, st.Message = prev.Reason, prev.Message
		if st.Reason == "" {
			st.Reason = p.Status.Reason
		}
		if st.Message == "" {
			st.Message = p.Status.Message
		}
	}
	if v := r.verdict(st); v != nil {
		st.Phase, st.Reason, st.Message = v1.PodFailed, v.Reason, v.Message
	}
	// A Pod does not leave a terminal phase that the API has seen.
	if podutil.Terminal(p.Status.Phase) {
		st.Phase = p.Status.Phase
	}
}

// verdict is why the node makes the Pod fail, nil when it does not.
func (r *reporter) verdict(st *v1.PodStatus) *Verdict {
	if r.o.Orders.Evict != nil {
		return r.o.Orders.Evict
	}
	if podutil.Terminal(st.Phase) && r.prev.Reason != DeadlineExceeded {
		return nil
	}
	s := r.pod.Spec.ActiveDeadlineSeconds
	if s == nil || st.StartTime == nil {
		return nil
	}
	if r.o.Now.Before(st.StartTime.Add(time.Duration(*s) * time.Second)) {
		return nil
	}
	return &Verdict{Reason: DeadlineExceeded, Message: DeadlineExceededMessage}
}
