// Package node is the node agent, the kubelet's job: it registers the machine as a Node, keeps its lease and
// status, and runs the Pods that are bound to it. It speaks to the API server with client-go and to the
// runtime through CRI, and to nothing else.
package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/node/config"
	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/node/evict"
	"podium.dev/podium/internal/node/gc"
	"podium.dev/podium/internal/node/logrotate"
	"podium.dev/podium/internal/node/machine"
	"podium.dev/podium/internal/node/object"
	"podium.dev/podium/internal/node/oom"
	"podium.dev/podium/internal/node/pod"
	"podium.dev/podium/internal/node/server"
	"podium.dev/podium/internal/node/shutdown"
	"podium.dev/podium/internal/node/static"
	"podium.dev/podium/internal/node/stats"
	"podium.dev/podium/internal/node/volume"
	"podium.dev/podium/internal/node/worker"
	"podium.dev/podium/internal/paths"
)

// Config is what a Node is made of.
type Config struct {
	// Name is the Node's name; IPs are its addresses, the main one first.
	Name string
	IPs  []net.IP
	// PodCIDRs are the ranges of its Pods' addresses.
	PodCIDRs []netip.Prefix
	Facts    machine.Facts
	Paths    paths.Paths
	// Kubelet are the node's settings, with defaults filled in.
	Kubelet *kubeletconfig.KubeletConfiguration
	Client  kubernetes.Interface
	// Reachable is closed when the API server can be reached. Before, the node runs its static Pods.
	Reachable <-chan struct{}
	Runtime   internalapi.RuntimeService
	Images    internalapi.ImageManagerService
	// PullProgress says how a pull of an image fares, "" for nothing to say.
	PullProgress func(image string) string
	// Kills are the kills for memory that the runtime hears of; nil when it tells of none.
	Kills <-chan oom.Kill
	// Policies are awaited before a Pod's containers start; nil enforces none.
	Policies worker.Policies
	// OwnPorts are the ports that the node itself listens on: no Pod gets them.
	OwnPorts []pod.OwnPort
	// Listener is where the node's server listens, Server what it is made of but for the Pods and the runtime.
	Listener net.Listener
	Server   server.Config
	Clock    clock.WithTicker
	// DefaultPod fills in what the API server would for a static Pod, CheckPod finds what it would refuse.
	DefaultPod func(*corev1.Pod)
	CheckPod   func(*corev1.Pod) field.ErrorList
	// DefaultObject and CheckObject do so for the ConfigMaps and Secrets that static Pods use.
	DefaultObject func(runtime.Object)
	CheckObject   func(runtime.Object) field.ErrorList
}

// Node is the agent of one node.
type Node struct {
	c       Config
	objects *object.Store
	volumes *volume.Manager
	workers *worker.Manager
	mirrors *static.Mirrors
	cgroups *container.Cgroups
	stats   *stats.Source
	images  *gc.Images
	// evictions keeps the node from running short of anything; changed is that the status is to be written soon.
	evictions *evict.Manager
	changed   chan struct{}
	shutdown  *shutdown.Manager
	events    record.EventBroadcaster
	recorder  record.EventRecorder

	mu        sync.Mutex
	lastWrite time.Time
	seen      *corev1.Node // as it was last seen, nil before it is registered
	uid       types.UID    // the Node object's
	ready     chan struct{}
	readyOnce sync.Once // closes it
}

// New puts the agent together; nothing happens before Run.
func New(c Config) (*Node, error) {
	n := &Node{c: c, ready: make(chan struct{}), changed: make(chan struct{}, 1)}
	n.events = record.NewBroadcaster()
	n.recorder = n.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: c.Name})
	if err := n.assemble(n.recorder); err != nil {
		return nil, fmt.Errorf("put the node agent together: %w", err)
	}
	return n, nil
}

// Ready is closed when the Node is registered and Ready, and takes Pods.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Trace returns the steps of the life of the Pod that last had the name.
func (n *Node) Trace(namespace, name string) (worker.Trace, bool) {
	return n.workers.Trace(namespace, name)
}

// Run runs the node until the context ends, and leaves the Pods running.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n.events.StartRecordingToSink(n.sink(ctx))
	defer n.events.Shutdown()

	var parts sync.WaitGroup
	part := func(name string, run func(context.Context) error) {
		parts.Go(func() {
			if err := run(klog.NewContext(ctx, klog.FromContext(ctx).WithName(name))); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	part("objects", func(ctx context.Context) error { n.objects.Run(ctx); return nil })
	part("volumes", func(ctx context.Context) error { n.volumes.Run(ctx); return nil })
	part("workers", n.workers.Run)
	part("static pods", func(ctx context.Context) error { static.Run(ctx, n.sources()); return nil })
	part("mirror pods", n.whenReachable(func(ctx context.Context) error { n.mirrors.Run(ctx); return nil }))
	part("server", func(ctx context.Context) error { return n.server().Serve(ctx, n.c.Listener) })
	part("logs", func(ctx context.Context) error { n.rotator().Run(ctx); return nil })
	part("out of memory", n.whenReachable(func(ctx context.Context) error { n.watchMemory(ctx); return nil }))
	part("evictions", func(ctx context.Context) error { n.evictions.Run(ctx); return nil })
	part("images", func(ctx context.Context) error { n.images.Run(ctx); return nil })
	part("allocatable", func(ctx context.Context) error { n.enforce(ctx); return nil })
	part("shutdown", func(ctx context.Context) error { n.shutdown.Run(ctx); return nil })
	part("settings", func(ctx context.Context) error { n.watchSettings(ctx); return nil })
	part("node object", n.whenReachable(n.watchSelf))
	part("pods", n.whenReachable(func(ctx context.Context) error { return n.podsOfAPI(ctx).run(ctx) }))
	part("heartbeat", n.whenReachable(func(ctx context.Context) error {
		if err := n.register(ctx); err != nil {
			return err
		}
		n.tellStart()
		n.heartbeat(ctx)
		return nil
	}))
	parts.Wait()
	return context.Cause(ctx)
}

// whenReachable runs a part that speaks to the API server as soon as that can be reached; static Pods do not
// wait for it.
func (n *Node) whenReachable(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.c.Reachable:
			return run(ctx)
		}
	}
}

func (n *Node) server() *server.Server {
	c := n.c.Server
	c.NodeName, c.Runtime, c.Settings = n.c.Name, n.c.Runtime, n.c.Kubelet
	c.Stats = n.stats
	c.Pods = podsByName{n.workers}
	return server.New(c)
}

// podsByName shows the workers' Pods to the server.
type podsByName struct{ *worker.Manager }

// Pod implements server.Pods.
func (p podsByName) Pod(namespace, name string) (*corev1.Pod, bool) {
	return p.PodByName(namespace, name)
}

func (n *Node) rotator() *logrotate.Rotator {
	k := n.c.Kubelet
	return logrotate.New(logrotate.Config{
		Runtime: n.c.Runtime, MaxSize: config.LogMaxSize(k), MaxFiles: int(*k.ContainerLogMaxFiles),
		Every: k.ContainerLogMonitorInterval.Duration, Clock: n.c.Clock,
	})
}

// heartbeat renews the lease and writes the status when it has changed, until the context ends. What fails is
// tried again at the next beat; others see the node's silence.
func (n *Node) heartbeat(ctx context.Context) {
	log := klog.FromContext(ctx)
	lease := n.c.Clock.NewTicker(leaseInterval(n.c.Kubelet.NodeLeaseDurationSeconds))
	defer lease.Stop()
	status := n.c.Clock.NewTicker(n.c.Kubelet.NodeStatusUpdateFrequency.Duration)
	defer status.Stop()
	var held *coordinationv1.Lease
	renew := func() {
		next, err := n.renew(ctx, held)
		if err != nil {
			log.Error(err, "Could not renew the node's lease", "node", n.c.Name)
			return
		}
		held = next
	}
	report := func() {
		if err := n.report(ctx); err != nil && ctx.Err() == nil {
			log.Error(err, "Could not report the node's status", "node", n.c.Name)
		}
	}
	renew()
	for {
		select {
		case <-ctx.Done():
			return
		case <-lease.C():
			renew()
		case <-status.C():
			report()
		case <-n.changed:
			report()
		}
	}
}

// observe looks at all that the node's status is computed from.
func (n *Node) observe(ctx context.Context) observation {
	o := observation{
		Name: n.c.Name, Facts: n.c.Facts, MaxPods: maxPods(n.c.Kubelet, n.c.Facts.Capacity), MaxImages: int(*n.c.Kubelet.NodeStatusMaxImages), Reserved: reserved(n.c.Kubelet, n.c.Facts.Capacity),
		Addresses: addresses(n.c.IPs, n.c.Facts.Hostname), Port: int32(n.c.Listener.Addr().(*net.TCPAddr).Port),
	}
	o.Pressure = n.pressure()
	o.Down = n.shutdown.Down()
	o.Now.Time = n.c.Clock.Now()
	o.Runtime, o.RuntimeErr = n.c.Runtime.Status(ctx, false)
	if o.RuntimeErr == nil {
		o.Version, o.RuntimeErr = n.c.Runtime.Version(ctx, "v1")
	}
	if o.RuntimeErr == nil {
		o.Images, o.RuntimeErr = n.c.Images.ListImages(ctx, nil)
	}
	return o
}

func addresses(ips []net.IP, hostname string) []corev1.NodeAddress {
	var out []corev1.NodeAddress
	for _, ip := range ips {
		out = append(out, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	return append(out, corev1.NodeAddress{Type: corev1.NodeHostName, Address: hostname})
}

// hostIPs are the node's addresses, at most one of each family.
func (n *Node) hostIPs() []string {
	var out []string
	seen := map[bool]bool{}
	for _, ip := range n.c.IPs {
		if v4 := ip.To4() != nil; !seen[v4] {
			seen[v4] = true
			out = append(out, ip.String())
		}
	}
	return out
}

// allocatable is what the node has for Pods.
func (n *Node) allocatable() corev1.ResourceList {
	c := capacity(nil, observation{Facts: n.c.Facts, MaxPods: maxPods(n.c.Kubelet, n.c.Facts.Capacity)})
	return allocatable(c, reserved(n.c.Kubelet, n.c.Facts.Capacity))
}
