// Package app starts and stops the whole of a Podium node. It is the only package that knows every part.
package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/clock"

	internalapi "k8s.io/cri-api/pkg/apis"

	"podium.dev/podium/internal/apiserver"
	"podium.dev/podium/internal/cluster"
	"podium.dev/podium/internal/cri"
	"podium.dev/podium/internal/image"
	"podium.dev/podium/internal/netpolicy"
	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/node"
	"podium.dev/podium/internal/node/config"
	"podium.dev/podium/internal/node/machine"
	"podium.dev/podium/internal/node/oom"
	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/phase"
	"podium.dev/podium/internal/pki"
	"podium.dev/podium/internal/store"
)

// Config is what `podium up` is told.
type Config struct {
	Paths paths.Paths
	// Bind is the API server's ADDR:PORT.
	Bind string
	// NodeName is the node's name; Up fills in the machine's when it is empty.
	NodeName string
	// PodCIDR is the range of the Pods' addresses; "" takes the one used before, or a free one.
	PodCIDR string
	// EtcdServers are the endpoints of an external etcd, with its CA and a client certificate.
	EtcdServers                           []string
	EtcdCAFile, EtcdCertFile, EtcdKeyFile string
	// MaxTokenLife is the longest life of a service-account token.
	MaxTokenLife time.Duration
	// MemoryLimit is how much memory the daemon may use, as a quantity; "" takes what suits the machine, "0" is no limit.
	MemoryLimit string
	// RuntimeEndpoint is the CRI socket of another runtime; "" is Podium's own.
	RuntimeEndpoint string
	// Disable are the add-ons that this cluster goes without, by their names in Addons.
	Disable []string
	// Verbosity is how much is logged, 0 to 9.
	Verbosity int
}

// LogFile is where the daemon logs to.
func (c Config) LogFile() string { return filepath.Join(c.Paths.Root, "podium.log") }

// maxKills is how many kills for memory wait for the node to take them.
const maxKills = 64

// daemon is a starting or running node.
type daemon struct {
	c     Config
	clock clock.RealClock
	parts *parts
	stop  context.CancelFunc

	facts    machine.Facts
	ips      []net.IP
	podCIDRs []netip.Prefix
	// cidrsChosen is that the ranges are neither asked for nor in use: others would do as well.
	cidrsChosen bool
	api         netip.AddrPort      // where Pods reach the API server
	placeShim   func(pid int) error // nil leaves shims where the daemon is
	kubelet     *kubeletconfig.KubeletConfiguration

	pki       *pki.Authority
	store     *store.Store
	apiserver *apiserver.Server
	images    atomic.Pointer[image.Service] // nil until it is open: the control socket is up before
	network   *network.Network
	cri       *cri.Runtime
	runtime   internalapi.RuntimeService
	imageAPI  internalapi.ImageManagerService
	pulls     *pulls              // nil with another runtime
	policies  *netpolicy.Enforcer // nil with another runtime
	node      *node.Node
	own       []pod.OwnPort // on which the node itself listens
	kills     chan oom.Kill // those that the runtime tells the node of
	reachable chan struct{} // closed when the API server serves
	ready     chan struct{} // closed when the node is Ready
}

// Up starts everything and runs it until the context ends, which leaves the Pods running. It calls progress for
// each phase that has ended, and ready when the node is Ready. c.NodeName is filled in when it is empty. The
// error wraps ErrAlreadyRunning when the root is in use, and is a preflight.Error when the machine cannot run a
// node; in both cases nothing was touched but containers of this node that held the API server's port.
func Up(ctx context.Context, c *Config, progress func(phase.Report), ready func()) error {
	if err := CheckMachine(ctx, *c); err != nil {
		return err
	}
	hold, err := lockRoot(c.Paths)
	if err != nil {
		return err
	}
	defer hold.release()
	closeLog, err := logTo(c.LogFile(), c.Verbosity)
	if err != nil {
		return err
	}
	defer closeLog()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := &daemon{c: *c, parts: newParts("node", "services", "network policies", "scheduler", "controllers", "api server"), stop: stop, kills: make(chan oom.Kill, maxKills), reachable: make(chan struct{}), ready: make(chan struct{})}
	defer d.parts.stop()
	if err := d.look(); err != nil {
		return err
	}
	c.NodeName = d.c.NodeName
	d.confine(ctx)
	if err := phase.Run(ctx, d.clock, d.phases(), progress); err != nil {
		return errors.Join(err, ctx.Err())
	}
	close(d.ready)
	ready()
	d.parts.start(ctx, "memory", d.releaseMemory)
	return d.parts.wait(ctx)
}

// look finds out what the phases need to know of the machine, and makes the node's folders.
func (d *daemon) look() (err error) {
	for _, dir := range []string{d.c.Paths.Root, d.c.Paths.Run, d.c.Paths.Kubelet, d.c.Paths.Images, d.c.Paths.Manifests} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the node's folders: %w", err)
		}
	}
	if err := linkRun(d.c.Paths); err != nil {
		return err
	}
	if d.facts, err = machine.Read(d.c.Paths.Kubelet); err != nil {
		return err
	}
	if d.c.NodeName == "" {
		d.c.NodeName = d.facts.Hostname
	}
	if d.ips, err = machine.NodeIPs(); err != nil {
		return err
	}
	if d.podCIDRs, d.cidrsChosen, err = podCIDRs(d.c.Paths, d.c.PodCIDR); err != nil {
		return err
	}
	d.kubelet, err = config.Ensure(d.c.Paths, config.Values{
		StaticPodPath: d.c.Paths.Manifests, PodLogsDir: d.c.Paths.PodLogs, ClusterDomain: cluster.Domain,
	}, config.Machine{Swap: d.facts.Swap, Capacity: d.facts.Capacity})
	if err != nil {
		return err
	}
	d.api, err = reachable(d.c.Bind, d.ips)
	return err
}

// linkRun makes ROOT/run lead to the run folder where that is elsewhere, so that sockets have one name below
// every root.
func linkRun(p paths.Paths) error {
	link := filepath.Join(p.Root, "run")
	if p.Run == link {
		return nil
	}
	if at, err := os.Readlink(link); err == nil && at == p.Run {
		return nil
	}
	if err := os.Symlink(p.Run, link); err != nil {
		return fmt.Errorf("link %s to %s: %w", link, p.Run, err)
	}
	return nil
}

// reachable is the address at which Pods reach an API server that listens at bind.
func reachable(bind string, ips []net.IP) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(bind)
	if err != nil {
		return at, fmt.Errorf("--bind %q is not ADDR:PORT with a numeric address: %w", bind, err)
	}
	if !at.Addr().IsUnspecified() {
		return at, nil
	}
	ip, ok := netip.AddrFromSlice(ips[0])
	if !ok {
		return at, fmt.Errorf("the machine's address %v is not one", ips[0])
	}
	return netip.AddrPortFrom(ip.Unmap(), at.Port()), nil
}

// logTo sends the logs of all parts to a file.
func logTo(file string, verbosity int) (closeIt func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	if err := setKlog(f, verbosity); err != nil {
		return nil, err
	}
	return func() { klog.Flush(); f.Close() }, nil
}
