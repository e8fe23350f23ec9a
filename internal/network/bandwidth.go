package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Annotations of a Pod that limit its link, as Kubernetes' network plugins read them.
const (
	ingressAnnotation = "kubernetes.io/ingress-bandwidth"
	egressAnnotation  = "kubernetes.io/egress-bandwidth"
)

// Kubernetes takes limits from one kilobit to one petabit a second.
var (
	minBandwidth = resource.MustParse("1k")
	maxBandwidth = resource.MustParse("1P")
)

// bandwidthOf is the limit a request asks for: its own, or that of the Pod's annotations.
func bandwidthOf(req Request) (Bandwidth, error) {
	if req.Bandwidth != (Bandwidth{}) {
		return req.Bandwidth, nil
	}
	var b Bandwidth
	for name, to := range map[string]*int64{ingressAnnotation: &b.Ingress, egressAnnotation: &b.Egress} {
		text, ok := req.Annotations[name]
		if !ok {
			continue
		}
		q, err := resource.ParseQuantity(text)
		if err != nil {
			return Bandwidth{}, fmt.Errorf("annotation %s=%q: %w", name, text, err)
		}
		if q.Cmp(minBandwidth) < 0 || q.Cmp(maxBandwidth) > 0 {
			return Bandwidth{}, fmt.Errorf("annotation %s=%q: resource is unreasonably small (< 1kbit) or large (> 1Pbit)", name, text)
		}
		*to = q.Value()
	}
	return b, nil
}

// limit shapes what leaves by a link from had to want bits a second, with a token bucket; 0 is no limit.
func limit(h *netlink.Handle, link netlink.Link, had, want int64) error {
	name, attrs := link.Attrs().Name, netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT}
	if want == 0 {
		if had == 0 {
			return nil
		}
		// The kernel answers ENOENT, older ones EINVAL, when there is none.
		if err := h.QdiscDel(&netlink.Tbf{QdiscAttrs: attrs}); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("take the limit from the link %s: %w", name, err)
		}
		return nil
	}
	rate := uint64(max(want/8, 1))
	// A bucket of 10 ms, at least of one packet with segmentation offload; a queue of 25 ms more.
	burst := min(max(rate/100, 64<<10), 1<<30)
	queue := min(rate/40+burst, 1<<31)
	attrs.Handle = netlink.MakeHandle(1, 0)
	tbf := &netlink.Tbf{QdiscAttrs: attrs, Rate: rate, Limit: uint32(queue), Buffer: netlink.Xmittime(rate, uint32(burst))}
	if err := h.QdiscReplace(tbf); err != nil {
		return fmt.Errorf("limit the link %s to %d bit/s: %w (is the kernel's sch_tbf module there?)", name, want, err)
	}
	return nil
}
