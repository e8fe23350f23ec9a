package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/paths"
)

// The cgroups of the node's own programs, next to kubepods. Shims are not in the daemon's: when the kernel ends the daemon for its
// memory, the Pods run on.
const (
	daemonCgroup = "podium-daemon"
	shimCgroup   = "podium-shims"
)

const (
	// memoryShare and leastMemory are what the daemon may use of the machine's memory unless --memory-limit says: a quarter, but
	// no less than 1 GiB, ten times what it uses with nothing to do. Beyond it the kernel ends the daemon alone, instead of
	// whatever on the machine, and the next start takes over.
	memoryShare, leastMemory = 4, 1 << 30
	// softShare is the part of the limit, in percent, from which the garbage collector works harder (GOMEMLIMIT): what is not
	// Go's heap, the page cache above all, needs the rest.
	softShare = 80
)

// errNoLimit is returned for a text that is no amount of memory.
var errNoLimit = errors.New("is no amount of memory; give for example --memory-limit 2Gi, or 0 for no limit")

// memoryLimit returns the daemon's limit in bytes, 0 for none: what is asked for, or what suits a machine with this much memory.
func memoryLimit(asked string, machine int64) (int64, error) {
	if asked == "" {
		return min(max(machine/memoryShare, leastMemory), max(machine, 0)), nil
	}
	q, err := resource.ParseQuantity(asked)
	if err != nil || q.Sign() < 0 {
		return 0, fmt.Errorf("%q %w", asked, errNoLimit)
	}
	return q.Value(), nil
}

// confine bounds the daemon's own memory, and protects it from the kernel's choice of what to end as far as this process may. What
// cannot be done is logged: a node without bounds is better than none.
func (d *daemon) confine(ctx context.Context) {
	log := klog.FromContext(ctx)
	limit, err := memoryLimit(d.c.MemoryLimit, d.facts.Capacity.Memory().Value())
	if err != nil {
		log.Error(err, "Failed to bound the daemon's memory")
		return
	}
	if limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit / 100 * softShare)
	}
	if d.c.RuntimeEndpoint == "" {
		// Only then does the launcher move shims out of the daemon's cgroup.
		if d.placeShim, err = shimPlacer(d.c.Paths); err != nil {
			log.Error(err, "Failed to make a cgroup for the shims; the daemon stays in the one it was started in")
			return
		}
	}
	if err := enterDaemon(d.c.Paths, limit); err != nil {
		log.Error(err, "Failed to put the daemon into a cgroup of its own")
	}
	if adjust := d.kubelet.OOMScoreAdj; adjust != nil {
		// Without CAP_SYS_RESOURCE it can only be raised.
		if err := os.WriteFile("/proc/self/oom_score_adj", strconv.AppendInt(nil, int64(*adjust), 10), 0); err != nil {
			log.V(2).Info("Failed to set the daemon's OOM score", "oomScoreAdj", *adjust, "err", err)
		}
	}
}

// shimPlacer returns what moves a shim out of the daemon's cgroup.
func shimPlacer(p paths.Paths) (func(pid int) error, error) {
	groups, err := cgroup.New(p.CgroupParent)
	if err != nil {
		return nil, err
	}
	if err := groups.Confine(shimCgroup, 0); err != nil {
		return nil, err
	}
	return func(pid int) error { return groups.Enter(shimCgroup, pid) }, nil
}

func enterDaemon(p paths.Paths, limit int64) error {
	groups, err := cgroup.New(p.CgroupParent)
	if err != nil {
		return err
	}
	return errors.Join(groups.Confine(daemonCgroup, limit), groups.Enter(daemonCgroup, os.Getpid()))
}

// removeOwnCgroups removes the cgroups of the node's own programs, once those that are in them have ended.
func removeOwnCgroups(ctx context.Context, groups *cgroup.Manager) (err error) {
	for _, p := range []string{shimCgroup, daemonCgroup} {
		if e := groups.Kill(ctx, p); e != nil {
			err = errors.Join(err, e)
			continue
		}
		err = errors.Join(err, groups.Remove(p))
	}
	return err
}
