package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/fsnotify/fsnotify"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/paths"
)

// cni calls the plugins of a CNI configuration, where there is one.
type cni struct {
	dir    string
	plugin *libcni.CNIConfig

	mu   sync.Mutex
	list *libcni.NetworkConfigList
	err  error
}

// newCNI reads the CNI folder as it is now. Plugins are looked for in the node's folder of them, then where
// distributions put them.
func newCNI(p paths.Paths) *cni {
	dirs := []string{p.CNIBin, "/usr/lib/cni", "/usr/libexec/cni"}
	c := &cni{dir: p.CNIConf, plugin: libcni.NewCNIConfigWithCacheDir(dirs, filepath.Join(p.Network, "cni"), nil)}
	c.reload()
	return c
}

// reload reads the folder: the first usable file by name counts, as everywhere.
func (c *cni) reload() {
	list, err := loadCNI(c.dir)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list, c.err = list, err
}

// current is the configuration in force; nil when there is none. The error says why none of those there can be used.
func (c *cni) current() (*libcni.NetworkConfigList, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list, c.err
}

func loadCNI(dir string) (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		return nil, fmt.Errorf("read the CNI folder %s: %w", dir, err)
	}
	slices.Sort(files)
	var errs []error
	for _, f := range files {
		list, err := loadCNIFile(f)
		if err == nil && len(list.Plugins) == 0 {
			err = errors.New("it names no plugin")
		}
		if err == nil {
			return list, nil
		}
		errs = append(errs, fmt.Errorf("CNI configuration %s: %w", f, err))
	}
	return nil, errors.Join(errs...)
}

// loadCNIFile reads a list of plugins, or, in a file with another ending than .conflist, a single plugin, which is
// made a list of one: the old form, which many guides still have.
func loadCNIFile(path string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(path) == ".conflist" {
		return libcni.NetworkConfFromFile(path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	one, err := libcni.NetworkPluginConfFromBytes(raw)
	if err != nil {
		return nil, err
	}
	if one.Network.Type == "" {
		return nil, errors.New("it names no plugin type (a list of plugins needs the ending .conflist)")
	}
	list, err := json.Marshal(map[string]any{
		"cniVersion": one.Network.CNIVersion, "name": one.Network.Name, "plugins": []json.RawMessage{raw},
	})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}

// watch tells, until ctx ends, when the configuration changed. The folder is made when missing, as there is nothing
// else to watch.
func (c *cni) watch(ctx context.Context, done *sync.WaitGroup) (<-chan struct{}, error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the CNI folder: %w", err)
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch the CNI folder: %w", err)
	}
	if err := w.Add(c.dir); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch the CNI folder %s: %w", c.dir, err)
	}
	c.reload()
	out := make(chan struct{}, 1)
	done.Add(1)
	go func() {
		defer done.Done()
		defer w.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.Errors:
			case e := <-w.Events:
				if e.Op == fsnotify.Chmod {
					continue
				}
			}
			c.reload()
			notify(out)
		}
	}()
	return out, nil
}

// status asks the plugins whether they can serve; those older than CNI 1.1 have no say.
func (c *cni) status(ctx context.Context, list *libcni.NetworkConfigList) error {
	if err := c.plugin.GetStatusNetworkList(ctx, list); err != nil {
		return fmt.Errorf("CNI network %s: %w", list.Name, err)
	}
	return nil
}

// setup is Setup for a sandbox that CNI serves.
func (c *cni) setup(ctx context.Context, l *ledger, list *libcni.NetworkConfigList, req Request, old *record) (*record, error) {
	if old != nil && len(old.IPs) > 0 {
		return old, nil
	}
	ports, err := hostPortsOf(req.PortMappings)
	if err != nil {
		return nil, err
	}
	bw, err := bandwidthOf(req)
	if err != nil {
		return nil, err
	}
	if old != nil {
		// Begun by a daemon that did not see the end of it.
		if err := c.teardown(ctx, old, req.NetNSPath); err != nil {
			return nil, err
		}
	}
	rec := &record{
		ID: req.ID, Namespace: req.Namespace, Name: req.Name, UID: req.UID, NetNS: req.NetNSPath,
		CNI: list.Name, Ports: ports, Bandwidth: bw,
	}
	if err := l.put(rec); err != nil {
		return nil, err
	}
	if err := setLoopback(req.NetNSPath); err != nil {
		return rec, err
	}
	result, err := c.plugin.AddNetworkList(ctx, list, runtimeConf(rec, req))
	if err != nil {
		return rec, fmt.Errorf("CNI network %s: %w", list.Name, err)
	}
	if rec.IPs, err = sandboxIPs(result); err != nil {
		return rec, fmt.Errorf("CNI network %s: %w", list.Name, err)
	}
	rec.done = true
	return rec, l.put(rec)
}

// teardown asks the plugins that set the sandbox up, with the configuration of that time, to take it down.
func (c *cni) teardown(ctx context.Context, rec *record, netNSPath string) error {
	rt := runtimeConf(rec, Request{})
	rt.NetNS = netNSPath
	raw, cached, err := c.plugin.GetNetworkListCachedConfig(&libcni.NetworkConfigList{Name: rec.CNI}, rt)
	if errors.Is(err, fs.ErrNotExist) || err == nil && raw == nil {
		return c.teardownUncached(ctx, rec, rt)
	}
	if err != nil {
		return fmt.Errorf("CNI network %s: read what it was set up with: %w", rec.CNI, err)
	}
	list, err := libcni.NetworkConfFromBytes(raw)
	if err != nil {
		return fmt.Errorf("CNI network %s: read what it was set up with: %w", rec.CNI, err)
	}
	if cached != nil {
		rt.Args, rt.CapabilityArgs = cached.Args, cached.CapabilityArgs
	}
	if err := c.plugin.DelNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("CNI network %s: %w", rec.CNI, err)
	}
	return nil
}

// teardownUncached is for a set-up that did not come to its end: nothing is kept of it, but the plugins may have
// begun.
func (c *cni) teardownUncached(ctx context.Context, rec *record, rt *libcni.RuntimeConf) error {
	list, err := c.current()
	if err != nil || list == nil || list.Name != rec.CNI {
		return nil
	}
	if err := c.plugin.DelNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("CNI network %s: %w", rec.CNI, err)
	}
	return nil
}

// collect lets plugins of CNI 1.1 and later drop what belongs to no sandbox.
func (c *cni) collect(ctx context.Context, list *libcni.NetworkConfigList, live []*record) error {
	args := &libcni.GCArgs{}
	for _, r := range live {
		if r.CNI == list.Name {
			args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: r.ID, IfName: podLink})
		}
	}
	if err := c.plugin.GCNetworkList(ctx, list, args); err != nil {
		return fmt.Errorf("CNI network %s: collect what no sandbox has: %w", list.Name, err)
	}
	return nil
}

// runtimeConf is what the plugins are told of a sandbox, by the names Kubernetes' runtimes use.
func runtimeConf(rec *record, req Request) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: rec.ID, NetNS: rec.NetNS, IfName: podLink,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", rec.Namespace},
			{"K8S_POD_NAME", rec.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", rec.ID},
			{"K8S_POD_UID", rec.UID},
		},
		CapabilityArgs: map[string]any{},
	}
	if len(rec.Ports) > 0 {
		rt.CapabilityArgs["portMappings"] = cniPorts(rec.Ports)
	}
	if bw := cniBandwidth(rec.Bandwidth); bw != nil {
		rt.CapabilityArgs["bandwidth"] = bw
	}
	if len(req.Annotations) > 0 {
		rt.CapabilityArgs["io.kubernetes.cri.pod-annotations"] = req.Annotations
	}
	return rt
}

// cniPort is an element of the portMappings capability.
type cniPort struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

func cniPorts(ports []hostPort) []cniPort {
	out := make([]cniPort, 0, len(ports))
	for _, p := range ports {
		m := cniPort{HostPort: int32(p.Host), ContainerPort: int32(p.Pod), Protocol: strings.ToLower(protocolName(p.Proto))}
		if p.HostIP.IsValid() {
			m.HostIP = p.HostIP.String()
		}
		out = append(out, m)
	}
	return out
}

func protocolName(proto uint8) string {
	switch proto {
	case unix.IPPROTO_UDP:
		return runtimeapi.Protocol_UDP.String()
	case unix.IPPROTO_SCTP:
		return runtimeapi.Protocol_SCTP.String()
	}
	return runtimeapi.Protocol_TCP.String()
}

// cniBandwidth is the bandwidth capability: rates in bits a second, the bursts as large as they can be said.
func cniBandwidth(b Bandwidth) map[string]uint64 {
	out := map[string]uint64{}
	if b.Ingress > 0 {
		out["ingressRate"], out["ingressBurst"] = uint64(b.Ingress), math.MaxInt32
	}
	if b.Egress > 0 {
		out["egressRate"], out["egressBurst"] = uint64(b.Egress), math.MaxInt32
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// sandboxIPs are the addresses of the sandbox's own link in a plugin's answer, in its order.
func sandboxIPs(result types.Result) ([]netip.Addr, error) {
	r, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil, fmt.Errorf("read the plugins' answer: %w", err)
	}
	var out []netip.Addr
	for _, c := range r.IPs {
		if i := c.Interface; i != nil && *i >= 0 && *i < len(r.Interfaces) && r.Interfaces[*i].Name != podLink {
			continue
		}
		if a, ok := netip.AddrFromSlice(c.Address.IP); ok {
			out = append(out, a.Unmap())
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the plugins' answer has no address for the sandbox")
	}
	return out, nil
}

// setLoopback brings lo up in a sandbox that plugins serve; they leave that to the runtime.
func setLoopback(path string) error {
	ns, err := openNetNS(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("reach into the network namespace: %w", err)
	}
	defer h.Close()
	return loopbackUp(h)
}
