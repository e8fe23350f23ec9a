package cri

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"podium.dev/podium/internal/shim"
)

// OOM is that the kernel has killed processes of a container for memory. The container may live on.
type OOM struct {
	// PodUID is the Pod's, Container the container's name.
	PodUID, Container string
	// Message says so, with the limit and the most that was used.
	Message string
}

// outOfMemory tells of a kill for memory.
func (r *Runtime) outOfMemory(c *container, m shim.Memory) {
	message := killed(fmt.Sprintf("%s of the container", count(m.Kills, "process", "processes")), m)
	r.log.Info("The kernel has killed processes of a container for memory", "container", c.ID, "kills", m.Kills, "limit", m.Limit, "peak", m.Peak)
	if r.cfg.OnOOM != nil {
		r.cfg.OnOOM(OOM{
			PodUID:    c.sandbox.config.GetMetadata().GetUid(),
			Container: c.config.GetMetadata().GetName(),
			Message:   message,
		})
	}
}

// exitMessage is what there is to say of an exit beyond its code and reason.
func exitMessage(exit shim.Exit) string {
	switch {
	case exit.Memory == nil:
		return ""
	case exit.Signal == int(unix.SIGKILL):
		return killed("the container", *exit.Memory)
	default: // it went on, or ended itself, after a child was killed
		return killed(fmt.Sprintf("%s of the container", count(exit.Memory.Kills, "process", "processes")), *exit.Memory)
	}
}

// killed says what the kernel has killed, and the memory's limit and peak as far as the kernel tells.
func killed(what string, m shim.Memory) string {
	text := "the kernel killed " + what + " for memory: "
	switch {
	case reached(m):
		text += "limit " + size(m.Limit)
	case m.Above > 0:
		text += "limit of the Pod or node " + size(m.Above)
	default:
		text += "no limit, the node is out of memory"
	}
	if m.Peak > 0 {
		text += ", peak " + size(m.Peak)
	}
	return text
}

// reached reports whether it was the container's own limit that was met, and not one above: a container that shares the
// Pod's limit with others has used less than that.
func reached(m shim.Memory) bool {
	if m.Limit == 0 || m.Above > 0 && m.Above < m.Limit {
		return false
	}
	return m.Above == 0 || m.Peak == 0 || m.Peak >= m.Limit-m.Limit/8
}

func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// size writes bytes in the largest unit of Kubernetes' binary ones that they reach, to a tenth.
func size(bytes uint64) string {
	v, unit := float64(bytes), 0
	for ; v >= 1024 && unit < 4; unit++ {
		v /= 1024
	}
	number := strconv.FormatFloat(v, 'f', 1, 64)
	return strings.TrimSuffix(number, ".0") + []string{"", "Ki", "Mi", "Gi", "Ti"}[unit]
}
