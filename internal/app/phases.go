package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/apiserver"
	"podium.dev/podium/internal/cluster"
	"podium.dev/podium/internal/control"
	"podium.dev/podium/internal/controller"
	"podium.dev/podium/internal/cri"
	"podium.dev/podium/internal/image"
	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/node"
	"podium.dev/podium/internal/node/config"
	"podium.dev/podium/internal/node/oom"
	"podium.dev/podium/internal/node/server"
	"podium.dev/podium/internal/node/worker"
	"podium.dev/podium/internal/phase"
	"podium.dev/podium/internal/pki"
	"podium.dev/podium/internal/registry/kinds"
	"podium.dev/podium/internal/registry/podspec"
	"podium.dev/podium/internal/scheduler"
	"podium.dev/podium/internal/services"
	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/store"
)

// The range of the cluster IPs; its first address is the Service `kubernetes`.
var (
	serviceRange = cluster.ServiceRange
	serviceIP    = serviceRange.Addr().Next()
)

// defaultNodePort is the kubelet's.
const defaultNodePort = 10250

// phases is the start of a node, as the user sees it go by.
func (d *daemon) phases() []phase.Phase {
	return []phase.Phase{
		{Name: "certificates", Run: d.startPKI},
		{Name: "store", Run: d.startStore},
		{Name: "images", Run: d.startImages},
		{Name: "network", Run: d.startNetwork},
		{Name: "runtime", After: []string{"images", "network"}, Run: d.startRuntime},
		{Name: "api server", After: []string{"certificates", "store"}, Run: d.startAPIServer},
		{Name: "controllers", After: []string{"api server"}, Run: d.startControllers},
		{Name: "scheduler", After: []string{"api server"}, Run: d.startScheduler},
		{Name: "network policies", After: []string{"certificates", "network"}, Run: d.startPolicies},
		{Name: "node agent", After: []string{"certificates", "runtime", "network policies"}, Run: d.startNode},
		{Name: "node", After: []string{"api server", "node agent"}, Run: func(ctx context.Context) error { return d.await(ctx, d.node.Ready()) }},
		{Name: "services", After: []string{"api server", "node agent"}, Run: d.startServices},
		{Name: "control socket", Run: d.startControl},
	}
}

func (d *daemon) startPKI(context.Context) (err error) {
	if d.pki, err = pki.Open(d.c.Paths.PKI, d.clock); err != nil {
		return err
	}
	return d.keepKubeconfig()
}

// keepKubeconfig writes the admin's kubeconfig, now and whenever its certificate is near its end.
func (d *daemon) keepKubeconfig() error {
	url, err := localURL(d.c.Bind)
	if err != nil {
		return err
	}
	next, err := d.pki.KeepKubeconfig(d.c.Paths.AdminKubeconfig, pki.Admin, url)
	if err != nil {
		return err
	}
	timer := d.clock.AfterFunc(time.Until(next), func() {
		if err := d.keepKubeconfig(); err != nil {
			klog.Background().Error(err, "Could not renew the admin's kubeconfig")
		}
	})
	d.parts.closer("kubeconfig", func() error { timer.Stop(); return nil })
	return nil
}

// localURL is how clients on this machine reach an API server that listens at bind.
func localURL(bind string) (string, error) {
	at, err := netip.ParseAddrPort(bind)
	if err != nil {
		return "", err
	}
	ip := at.Addr()
	switch {
	case ip == netip.IPv4Unspecified():
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case ip == netip.IPv6Unspecified():
		ip = netip.IPv6Loopback()
	}
	return "https://" + netip.AddrPortFrom(ip, at.Port()).String(), nil
}

func (d *daemon) startStore(ctx context.Context) (err error) {
	d.store, err = store.Start(ctx, store.Config{
		Dir: d.c.Paths.Etcd, Socket: d.c.Paths.Run + "/etcd.sock",
		Servers: d.c.EtcdServers, CAFile: d.c.EtcdCAFile, CertFile: d.c.EtcdCertFile, KeyFile: d.c.EtcdKeyFile,
	})
	if err != nil {
		return err
	}
	d.parts.closer("store", d.store.Close)
	go func() {
		if err := <-d.store.Failed(); err != nil {
			d.parts.fail(fmt.Errorf("store: %w", err))
		}
	}()
	return nil
}

func (d *daemon) startImages(ctx context.Context) error {
	if d.c.RuntimeEndpoint != "" {
		return nil
	}
	images, err := image.Open(ctx, image.Config{Paths: d.c.Paths})
	if err != nil {
		return err
	}
	d.images.Store(images)
	d.parts.closer("images", images.Close)
	d.parts.start(ctx, "image archives", images.Watch)
	return nil
}

func (d *daemon) startNetwork(context.Context) (err error) {
	if d.c.RuntimeEndpoint != "" {
		return nil
	}
	if d.network, err = d.openNetwork(); err != nil {
		return err
	}
	d.parts.closer("network", func() error { d.network.Close(); return nil })
	return nil
}

func (d *daemon) startRuntime(ctx context.Context) (err error) {
	if d.c.RuntimeEndpoint != "" {
		return d.connectRuntime(ctx)
	}
	images := d.images.Load()
	if d.cri, err = cri.New(ctx, cri.Config{
		Paths: d.c.Paths, Images: images, Network: d.network, OnOOM: d.outOfMemory, PlaceShim: d.placeShim,
		LogLimits: shim.LogLimits{MaxSize: config.LogMaxSize(d.kubelet), MaxFiles: int(*d.kubelet.ContainerLogMaxFiles)},
	}); err != nil {
		return err
	}
	d.parts.closer("runtime", d.cri.Close)
	d.pulls = newPulls(cri.LocalImages(images))
	d.runtime, d.imageAPI = d.cri.Local(), d.pulls
	d.parts.start(ctx, "cri", func(ctx context.Context) error {
		return d.cri.Serve(ctx, d.c.Paths.CRISocket, cri.ImageService(images))
	})
	return nil
}

func (d *daemon) startAPIServer(ctx context.Context) (err error) {
	d.apiserver, err = apiserver.New(ctx, apiserver.Config{
		Bind: d.c.Bind, Advertise: d.api.Addr().AsSlice(), ServiceRange: serviceRange,
		MaxTokenLife: d.c.MaxTokenLife, PKI: d.pki, Store: d.store, Groups: kinds.Groups(),
	})
	if err != nil {
		return err
	}
	d.parts.start(ctx, "api server", d.apiserver.Run)
	if err := d.await(ctx, d.apiserver.Ready()); err != nil {
		return err
	}
	close(d.reachable)
	return nil
}

// outOfMemory hands the node what the runtime has heard of. What comes while nobody takes it, and is more than is kept,
// is in the containers' status only.
func (d *daemon) outOfMemory(o cri.OOM) {
	select {
	case d.kills <- oom.Kill{PodUID: types.UID(o.PodUID), Container: o.Container, Message: o.Message}:
	default:
	}
}

// await waits for a part to be ready, or for the daemon to end or fail.
func (d *daemon) await(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case err := <-d.parts.failed:
		return err
	}
}

func (d *daemon) startControllers(ctx context.Context) error {
	config, err := d.clientConfig(pki.ControllerManager)
	if err != nil {
		return err
	}
	d.parts.start(ctx, "controllers", func(ctx context.Context) error {
		return controller.Run(ctx, controller.Config{
			REST: config, CA: d.pki.Bundle(), ServiceRange: serviceRange, LoadBalancer: d.c.Has(AddonLoadBalancer),
		})
	})
	return nil
}

// client returns a client of the API server, which need not be there yet.
func (d *daemon) client(who pki.Identity) (kubernetes.Interface, error) {
	config, err := d.clientConfig(who)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func (d *daemon) clientConfig(who pki.Identity) (*rest.Config, error) {
	url, err := localURL(d.c.Bind)
	if err != nil {
		return nil, err
	}
	return d.pki.ClientConfig(who, url)
}

func (d *daemon) startScheduler(ctx context.Context) error {
	client, err := d.client(pki.Scheduler)
	if err != nil {
		return err
	}
	d.parts.start(ctx, "scheduler", scheduler.New(client, scheduler.Options{}).Run)
	return nil
}

// startServices starts what makes Services reachable. The "kubernetes" Service is the network's, where there is one.
func (d *daemon) startServices(ctx context.Context) error {
	client, err := d.client(pki.Proxy)
	if err != nil {
		return err
	}
	c := services.Config{Client: client, ID: d.c.Paths.ID, Node: d.c.NodeName, Clock: d.clock}
	for _, o := range d.own {
		c.Own = append(c.Own, o.At)
	}
	if d.network != nil {
		c.Bridge, c.Bridges = d.network.Bridge(), network.BridgeGroup
		c.Kept = []netip.AddrPort{netip.AddrPortFrom(serviceIP, network.ServicePort)}
	}
	if c.Bridge != "" {
		c.Pods = append([]netip.Prefix{cluster.PodRange}, d.podCIDRs...)
	}
	d.parts.start(ctx, "services", services.New(c).Run)
	return nil
}

func (d *daemon) startNode(ctx context.Context) error {
	client, err := d.client(pki.Node(d.c.NodeName))
	if err != nil {
		return err
	}
	tls, err := d.pki.ServerTLS(pki.ServerName{Subject: "system:node:" + d.c.NodeName, Groups: []string{"system:nodes"}, IPs: d.ips, DNS: []string{d.c.NodeName}})
	if err != nil {
		return err
	}
	listener, err := listenNode(d.kubelet.Address, d.kubelet.Port)
	if err != nil {
		return err
	}
	own, err := d.keepOwnPorts(listener)
	d.own = own
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	var pullProgress func(string) string
	if d.pulls != nil {
		pullProgress = d.pulls.progress
	}
	var policies worker.Policies
	if d.policies != nil {
		policies = d.policies
	}
	d.node, err = node.New(node.Config{
		Name: d.c.NodeName, IPs: d.ips, PodCIDRs: d.podCIDRs, Facts: d.facts, Paths: d.c.Paths, Kubelet: d.kubelet,
		Client: client, Policies: policies, Runtime: d.runtime, Images: d.imageAPI, Listener: listener, OwnPorts: own, Clock: d.clock, PullProgress: pullProgress, Kills: d.kills,
		Reachable: d.reachable, DefaultPod: podspec.Default, CheckPod: podspec.CheckNew, DefaultObject: defaultObject, CheckObject: checkObject,
		Server: server.Config{TLS: tls, Clients: []string{pki.KubeletClient.User}, LogDir: d.kubelet.PodLogsDir},
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	d.parts.start(ctx, "node", d.node.Run)
	return nil
}

// listenNode listens at the address and port of the settings. The default port may be another node's of this machine; then
// any free one will do, for the Node object says which it is.
func listenNode(address string, port int32) (net.Listener, error) {
	if ip := net.ParseIP(address); ip.IsUnspecified() {
		address = "" // of both families
	}
	l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
	if err != nil && port == defaultNodePort {
		l, err = net.Listen("tcp", net.JoinHostPort(address, "0"))
	}
	if err != nil {
		return nil, fmt.Errorf("listen on the node's port: %w; set another `port` in the node's config.yaml", err)
	}
	return l, nil
}

func (d *daemon) startControl(ctx context.Context) error {
	d.parts.start(ctx, "control socket", func(ctx context.Context) error { return control.Serve(ctx, d.c.Paths.ControlSocket, d) })
	return nil
}
