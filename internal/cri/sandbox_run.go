package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/cri/spec"
	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/shim"
)

const (
	// startTimeout is how long a sandbox may take to start, whoever waits for it.
	startTimeout = 4 * time.Minute
	// cleanTimeout is how long a failed start may take to clean up.
	cleanTimeout = time.Minute
	// defaultShm is the size of a Pod's /dev/shm.
	defaultShm = 64 << 20
	// pauseOOMScore keeps pause from being killed before any container.
	pauseOOMScore = -998
)

// RunPodSandbox makes and starts a sandbox. Asked again for the same Pod and attempt, it returns the same sandbox.
func (r *Runtime) RunPodSandbox(ctx context.Context, req *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	if req.GetConfig().GetMetadata() == nil {
		return nil, status.Error(codes.InvalidArgument, "the sandbox's configuration has no metadata")
	}
	if h := req.GetRuntimeHandler(); h != "" {
		return nil, status.Errorf(codes.NotFound, "no runtime for %q is configured", h)
	}
	key := sandboxKey(req.GetConfig().GetMetadata())
	id, err := r.creates.do(ctx, key, func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		return r.runSandbox(ctx, key, req.GetConfig())
	})
	if err != nil {
		return nil, err
	}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// runSandbox returns the ready sandbox of the key if there is one, removes one that is not ready, and makes one.
func (r *Runtime) runSandbox(ctx context.Context, key string, config *runtimeapi.PodSandboxConfig) (string, error) {
	if have := r.store.sandboxByKey(key); have != nil {
		if have.get().Ready {
			return have.ID, nil
		}
		if err := r.removeSandbox(ctx, have); err != nil {
			return "", fmt.Errorf("remove what is left of sandbox %s: %w", have.ID, err)
		}
	}
	sb, err := r.newSandbox(key, config)
	if err != nil {
		return "", err
	}
	uid := config.GetMetadata().GetUid()
	// The steps of a sandbox's start. Whatever of them was done, clean undoes it.
	steps := []struct {
		name string
		do   func(context.Context, *sandbox) error
	}{
		{"record", r.recordSandbox}, {"files", r.writeSandboxFiles}, {"shim", r.launchShim}, {"network", r.setUpNetwork}, {"ready", r.sandboxReady},
	}
	for _, step := range steps {
		err := context.Cause(ctx) // cut short between two steps
		if err == nil {
			err = r.timed(uid, "", "sandbox "+step.name, func() error { return step.do(ctx, sb) })
		}
		if err != nil {
			return "", errors.Join(fmt.Errorf("failed to start sandbox %q: %w", key, err), r.undoSandbox(ctx, sb))
		}
	}
	r.emit(sb.ID, sb, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	r.emit(sb.ID, sb, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return sb.ID, nil
}

// undoSandbox cleans up after a failed start. A sandbox that could not be cleaned stays known as one that is not ready,
// so that it is listed and its removal is tried again.
func (r *Runtime) undoSandbox(ctx context.Context, sb *sandbox) error {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	err := r.cleanSandbox(clean, sb)
	if err == nil {
		return nil
	}
	sb.mu.Lock()
	sb.state.Ready, sb.removed = false, true
	sb.mu.Unlock()
	r.store.addSandbox(sb)
	r.emit(sb.ID, sb, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	return fmt.Errorf("clean up after it: %w", err)
}

// newSandbox decides what the sandbox will be.
func (r *Runtime) newSandbox(key string, config *runtimeapi.PodSandboxConfig) (*sandbox, error) {
	ns := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if ns.GetUsernsOptions().GetMode() == runtimeapi.NamespaceMode_POD && len(ns.GetUsernsOptions().GetUids()) > 0 {
		return nil, status.Error(codes.Unimplemented, "user namespaces (hostUsers: false) are not supported by this runtime")
	}
	encoded, err := proto.Marshal(config)
	if err != nil {
		return nil, err
	}
	sb := &sandbox{config: config}
	sb.sandboxRecord = sandboxRecord{
		ID: newID(), Key: key, CreatedAt: r.clock.Now(), BootID: r.bootID, Config: encoded,
	}
	parent := config.GetLinux().GetCgroupParent()
	if parent == "" {
		parent = r.defaultCgroupParent()
	}
	sb.Cgroup = path.Join("/", parent, sb.ID)
	if ns.GetNetwork() != runtimeapi.NamespaceMode_NODE {
		sb.NetNS = r.netNSFile(sb.ID)
	}
	return sb, nil
}

// defaultCgroupParent is where the cgroups of who names no parent go.
func (r *Runtime) defaultCgroupParent() string {
	return path.Join(r.cfg.Paths.CgroupParent, "podium-cri")
}

// recordSandbox is first, so that whatever is made after it is found again.
func (r *Runtime) recordSandbox(_ context.Context, sb *sandbox) error {
	for _, dir := range []string{r.sandboxDir(sb.ID), r.shimDir(sb.ID)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := save(r.sandboxDir(sb.ID), recordFile, sb.sandboxRecord); err != nil {
		return err
	}
	sb.sandboxRecord.Config = nil // it is on disk, and decoded in memory
	if dir := sb.config.GetLogDirectory(); dir != "" {
		return os.MkdirAll(dir, 0o755)
	}
	return nil
}

// writeSandboxFiles makes the files that the Pod's containers have in /etc.
func (r *Runtime) writeSandboxFiles(_ context.Context, sb *sandbox) error {
	dir := r.shimDir(sb.ID)
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := checkLines(sb.config); err != nil {
		return err
	}
	hostname := sb.config.GetHostname()
	if hostname == "" {
		hostname = r.host.Hostname
	}
	resolv, err := resolvConf(sb.config.GetDnsConfig(), os.ReadFile)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		spec.HostnameFile: []byte(hostname + "\n"), spec.HostsFile: hosts, spec.ResolvConfFile: resolv,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// checkLines refuses names that would be more than a name in the files that they are written into.
func checkLines(config *runtimeapi.PodSandboxConfig) error {
	dns := config.GetDnsConfig()
	for _, word := range slices.Concat([]string{config.GetHostname()}, dns.GetServers(), dns.GetSearches(), dns.GetOptions()) {
		if strings.ContainsFunc(word, unicode.IsControl) {
			return status.Errorf(codes.InvalidArgument, "the sandbox's hostname or dns_config: %q has a line break or another control character", word)
		}
	}
	return nil
}

// resolvConf is made of the DNS configuration, or is the host's for none.
func resolvConf(dns *runtimeapi.DNSConfig, read func(string) ([]byte, error)) ([]byte, error) {
	if len(dns.GetServers()) == 0 && len(dns.GetSearches()) == 0 && len(dns.GetOptions()) == 0 {
		host, err := read("/etc/resolv.conf")
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return host, err
	}
	var b strings.Builder
	if s := dns.GetSearches(); len(s) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(s, " "))
	}
	for _, s := range dns.GetServers() {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if o := dns.GetOptions(); len(o) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(o, " "))
	}
	return []byte(b.String()), nil
}

// launchShim starts the shim and with it pause and the namespaces.
func (r *Runtime) launchShim(ctx context.Context, sb *sandbox) error {
	cgroups, err := r.machine.MakeCgroup(sb.Cgroup)
	if err != nil {
		return err
	}
	ns := sb.config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	node := runtimeapi.NamespaceMode_NODE
	s := shim.SandboxSpec{
		ID: sb.ID, Dir: r.shimDir(sb.ID), Cgroups: cgroups, NetNSFile: sb.NetNS, OOMScoreAdj: pauseOOMScore,
		Net: ns.GetNetwork() != node, UTS: ns.GetNetwork() != node, IPC: ns.GetIpc() != node,
		PID: ns.GetPid() == runtimeapi.NamespaceMode_POD, Sysctls: sb.config.GetLinux().GetSysctls(),
		Logs: r.cfg.LogLimits,
	}
	if s.UTS {
		s.Hostname = sb.config.GetHostname()
	}
	if s.IPC {
		s.ShmBytes = defaultShm
	}
	sh, st, err := r.launcher.Launch(ctx, s)
	if err != nil {
		return err
	}
	for _, n := range st.Notes {
		r.note("pause", n)
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	sb.shim, sb.state.PausePID = sh, st.PausePID
	return nil
}

// setUpNetwork gives the sandbox its addresses.
func (r *Runtime) setUpNetwork(ctx context.Context, sb *sandbox) error {
	if sb.NetNS == "" {
		return nil
	}
	meta := sb.config.GetMetadata()
	res, err := r.cfg.Network.Setup(ctx, network.Request{
		ID: sb.ID, Namespace: meta.GetNamespace(), Name: meta.GetName(), UID: meta.GetUid(), NetNSPath: sb.NetNS,
		PortMappings: sb.config.GetPortMappings(), Annotations: sb.config.GetAnnotations(), Labels: sb.config.GetLabels(),
	})
	if err != nil {
		return fmt.Errorf("failed to setup network for sandbox %q: %w", sb.ID, err)
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	for _, ip := range res.IPs {
		sb.state.IPs = append(sb.state.IPs, ip.String())
	}
	return nil
}

// sandboxReady makes it known. From here on a restart takes it over.
func (r *Runtime) sandboxReady(_ context.Context, sb *sandbox) error {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	sb.state.Ready = true
	if err := r.saveSandboxLocked(sb); err != nil {
		return err
	}
	r.store.addSandbox(sb)
	r.watch(sb, sb.shim)
	return nil
}
