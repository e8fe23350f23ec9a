package cri

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/cri/spec"
	"podium.dev/podium/internal/shim"
	"podium.dev/podium/internal/shim/bundle"
	"podium.dev/podium/internal/shim/client"
	"podium.dev/podium/internal/shim/embedded"
)

// Runtime is the container runtime. It implements CRI's RuntimeService.
type Runtime struct {
	runtimeapi.UnimplementedRuntimeServiceServer

	cfg         Config
	log         klog.Logger
	machine     Machine
	host        spec.Host
	launcher    shim.Launcher
	clock       clock.Clock
	bootID      string
	store       *store
	events      *broadcast
	creates     *creates
	streaming   streaming.Server
	streamingAt netip.AddrPort // where streaming listens
	execs       *execs
	layers      *layerStats
	once        noteOnce
	syncRoom    room

	// ctx ends with Close; work that outlives a call, and watching shims, runs under it.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// New opens the runtime: it reads what existed, finds the shims that run, and finishes or removes what was half made.
// ctx carries the logger; the runtime lives until Close.
func New(ctx context.Context, cfg Config) (*Runtime, error) {
	r := &Runtime{
		cfg: cfg, log: klog.FromContext(ctx), machine: cfg.Machine, launcher: cfg.Launcher, clock: cfg.Clock,
		store: newStore(), events: newBroadcast(), creates: newCreates(), execs: newExecs(), layers: newLayerStats(),
	}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := r.open(ctx); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("open the container runtime: %w", err)
	}
	return r, nil
}

// open is the start, in order.
func (r *Runtime) open(ctx context.Context) error {
	for _, dir := range []string{r.cfg.Paths.Runtime, r.cfg.Paths.Run, r.seccompDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	var err error
	if r.machine == nil {
		if r.machine, err = newMachine(); err != nil {
			return err
		}
	}
	r.host = r.machine.Host()
	if r.bootID, err = r.machine.BootID(); err != nil {
		return fmt.Errorf("read the machine's boot ID: %w", err)
	}
	if r.launcher == nil {
		if r.launcher, err = realLauncher(r.cfg); err != nil {
			return err
		}
	}
	if err := r.makePrivate(); err != nil {
		return err
	}
	if err := r.restore(ctx); err != nil {
		return err
	}
	return r.startStreaming()
}

// realLauncher finds or unpacks the static programs.
func realLauncher(cfg Config) (shim.Launcher, error) {
	if cfg.ShimPath != "" {
		in := func(name string) string { return filepath.Join(cfg.ShimPath, name+".bin") }
		return client.NewLauncher(client.Programs{Shim: in("shim"), OCI: in("oci"), Pause: in("pause"), Place: cfg.PlaceShim})
	}
	p, err := embedded.Unpack(filepath.Join(cfg.Paths.Root, "bin"))
	if err != nil {
		return nil, err
	}
	return client.NewLauncher(client.Programs{Shim: p.Shim, OCI: p.OCI, Pause: p.Pause, Place: cfg.PlaceShim})
}

// makePrivate makes the folders on which every container's root file system is mounted, each in a mount namespace of
// its own: the host sees none of them.
func (r *Runtime) makePrivate() error {
	if err := r.machine.MountPrivate(r.privateDir()); err != nil {
		return err
	}
	for _, d := range []string{bundle.RootfsDir, bundle.ShmDir, bundle.ImagesDir} {
		if err := os.MkdirAll(filepath.Join(r.privateDir(), d), 0o755); err != nil {
			return err
		}
	}
	// Compiled seccomp profiles that nobody finished.
	half, _ := filepath.Glob(filepath.Join(r.seccompDir(), "*.tmp"))
	for _, f := range half {
		_ = os.Remove(f)
	}
	return nil
}

// Close ends the runtime and leaves the Pods running: New finds them again.
func (r *Runtime) Close() error {
	r.cancel()
	if r.streaming != nil {
		_ = r.streaming.Stop()
	}
	r.events.close()
	for _, sb := range r.store.allSandboxes() {
		sb.mu.Lock()
		sh := sb.shim
		sb.mu.Unlock()
		if sh != nil {
			_ = sh.Close()
		}
	}
	r.work.Wait()
	return nil
}

// StopAll stops every sandbox, containers first with their grace period given by the caller.
func (r *Runtime) StopAll(ctx context.Context, grace time.Duration) error {
	return r.each(r.store.allSandboxes(), func(sb *sandbox) error {
		err := r.stopContainersOf(ctx, sb, grace)
		return errors.Join(err, r.stopSandbox(ctx, sb))
	})
}

// RemoveAll removes every sandbox and all that the runtime has on the machine; it is of no use afterwards.
func (r *Runtime) RemoveAll(ctx context.Context) error {
	err := r.each(r.store.allSandboxes(), func(sb *sandbox) error { return r.removeSandbox(ctx, sb) })
	err = errors.Join(err, r.machine.Unmount(r.privateDir()), r.machine.ClearCgroup(ctx, r.defaultCgroupParent()))
	for _, dir := range []string{"sandboxes", "containers", "netns", "private"} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.cfg.Paths.Run, dir)))
	}
	return err
}

// parallel is how many sandboxes are stopped or removed at a time.
const parallel = 16

// each does it for all sandboxes, several at a time, and joins the errors.
func (r *Runtime) each(list []*sandbox, do func(*sandbox) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(list))
	slots := make(chan struct{}, parallel)
	for i, sb := range list {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			errs[i] = do(sb)
			<-slots
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// timed does a step of a start and tells how long it took.
func (r *Runtime) timed(podUID, container, name string, do func() error) error {
	start := time.Now()
	err := do()
	if r.cfg.OnStep != nil {
		r.cfg.OnStep(Step{PodUID: podUID, Container: container, Name: name, Start: start, Took: time.Since(start)})
	}
	return err
}

// noteOnce logs a note the first time only: what the machine cannot do it will not be able to do next time.
type noteOnce struct {
	mu   sync.Mutex
	said map[string]bool
}

// note says what could not be done as asked; kind tells notes apart, whatever they were about.
func (r *Runtime) note(kind, text string) {
	r.once.mu.Lock()
	defer r.once.mu.Unlock()
	if r.once.said == nil {
		r.once.said = map[string]bool{}
	}
	if !r.once.said[kind] {
		r.once.said[kind] = true
		r.log.Info("Not all that Pods ask for can be done on this machine", "note", text)
	}
}
