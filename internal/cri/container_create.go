package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/cri/spec"
	"podium.dev/podium/internal/image"
	"podium.dev/podium/internal/shim/bundle"
)

// createTimeout is how long a container's creation may take, whoever waits for it.
const createTimeout = 2 * time.Minute

// CreateContainer makes a container's root file system and configuration. Asked again for the same name and attempt in
// the sandbox, it returns the same container.
func (r *Runtime) CreateContainer(ctx context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	if req.GetConfig().GetMetadata() == nil {
		return nil, status.Error(codes.InvalidArgument, "the container's configuration has no metadata")
	}
	sb, err := r.store.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	key := containerKey(sb.ID, req.GetConfig().GetMetadata())
	id, err := r.creates.do(ctx, key, func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, createTimeout)
		defer cancel()
		return r.createContainer(ctx, key, sb, req.GetConfig())
	})
	if err != nil {
		return nil, err
	}
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

func (r *Runtime) createContainer(ctx context.Context, key string, sb *sandbox, config *runtimeapi.ContainerConfig) (string, error) {
	if have := r.store.containerByKey(key); have != nil {
		return have.ID, nil
	}
	if _, err := sb.live(); err != nil {
		return "", err
	}
	c, img, err := r.newContainer(ctx, key, sb, config)
	if err != nil {
		return "", err
	}
	uid, name := sb.config.GetMetadata().GetUid(), config.GetMetadata().GetName()
	// The steps of a container's making. Whatever of them was done, cleanContainer undoes it.
	steps := []struct {
		name string
		do   func(context.Context, *container, image.Image) error
	}{
		{"record", r.recordContainer}, {"bundle", r.writeBundle}, {"created", r.containerCreated},
	}
	for _, step := range steps {
		err := context.Cause(ctx) // cut short between two steps
		if err == nil {
			err = r.timed(uid, name, "container "+step.name, func() error { return step.do(ctx, c, img) })
		}
		if err != nil {
			return "", errors.Join(fmt.Errorf("failed to create container %q: %w", name, err), r.undoContainer(ctx, c))
		}
	}
	r.emit(c.ID, sb, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	return c.ID, nil
}

// undoContainer cleans up after a failed creation. What could not be cleaned is left to the removal of the sandbox.
func (r *Runtime) undoContainer(ctx context.Context, c *container) error {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	err := r.cleanContainer(clean, c)
	if err == nil {
		return nil
	}
	c.sandbox.mu.Lock()
	c.sandbox.half = append(c.sandbox.half, c)
	c.sandbox.mu.Unlock()
	return fmt.Errorf("clean up after it: %w", err)
}

// newContainer decides what the container will be.
func (r *Runtime) newContainer(ctx context.Context, key string, sb *sandbox, config *runtimeapi.ContainerConfig) (*container, image.Image, error) {
	img, err := r.findImage(ctx, config.GetImage().GetImage())
	if err != nil {
		return nil, img, err
	}
	encoded, err := proto.Marshal(config)
	if err != nil {
		return nil, img, err
	}
	c := &container{config: config, sandbox: sb, ended: make(chan struct{}), cleared: make(chan struct{})}
	c.containerRecord = containerRecord{
		ID: newID(), Key: key, SandboxID: sb.ID, CreatedAt: r.clock.Now(), Config: encoded, ImageID: img.ID,
		ImageRef: first(img.Digests, img.ID), ImageName: first(img.Tags, config.GetImage().GetImage()),
		StopSignal: stopSignalName(config.GetStopSignal(), img.Config.StopSignal),
	}
	if dir, file := sb.config.GetLogDirectory(), config.GetLogPath(); dir != "" && file != "" {
		c.LogPath = filepath.Join(dir, file)
	}
	if c.state.Resources, err = proto.Marshal(config.GetLinux().GetResources()); err != nil {
		return nil, img, err
	}
	c.state.State = stateCreated
	parent := sb.config.GetLinux().GetCgroupParent()
	if parent == "" {
		parent = r.defaultCgroupParent()
	}
	c.Cgroup = path.Join("/", parent, c.ID)
	c.KillAll = config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid() != runtimeapi.NamespaceMode_CONTAINER
	return c, img, nil
}

func first(list []string, otherwise string) string {
	if len(list) > 0 {
		return list[0]
	}
	return otherwise
}

func (r *Runtime) findImage(ctx context.Context, ref string) (image.Image, error) {
	img, err := r.cfg.Images.Find(ctx, ref)
	if errdefs.IsNotFound(err) {
		return img, status.Errorf(codes.NotFound, "image %q: not found", ref)
	}
	if err != nil {
		return img, fmt.Errorf("failed to resolve image %q: %w", ref, err)
	}
	return img, nil
}

// recordContainer is first, so that whatever is made after it is found again.
func (r *Runtime) recordContainer(_ context.Context, c *container, _ image.Image) error {
	for _, dir := range []string{r.containerDir(c.ID), r.bundleDir(c.ID)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	err := save(r.containerDir(c.ID), recordFile, c.containerRecord)
	c.containerRecord.Config = nil // it is on disk, and decoded in memory
	return err
}

// writeBundle prepares the root file system and all that the container is started with.
func (r *Runtime) writeBundle(ctx context.Context, c *container, img image.Image) error {
	target, err := r.targetPID(c)
	if err != nil {
		return err
	}
	out, err := spec.Build(spec.Input{
		ID: c.ID, SandboxID: c.SandboxID, Container: c.config, Sandbox: c.sandbox.config, Image: img.Config,
		PausePID: c.sandbox.get().PausePID, TargetPID: target, Files: r.shimDir(c.SandboxID), Private: r.privateDir(),
		CgroupParent: r.defaultCgroupParent(),
	}, r.host)
	if err != nil {
		return err
	}
	for _, n := range out.Notes {
		r.note(n, n)
	}
	rootfs, err := r.cfg.Images.Rootfs(ctx, img, c.ID, false)
	if err != nil {
		return fmt.Errorf("prepare the root file system: %w", err)
	}
	b := &bundle.Bundle{
		ID: c.ID, Private: r.privateDir(), Rootfs: mounts(rootfs), User: out.User, Spec: out.Spec, SeccompCache: r.seccompDir(),
	}
	if out.Shm {
		b.ShmPID = c.sandbox.get().PausePID
	}
	for n, ref := range out.Images {
		im, err := r.imageMount(ctx, c, n, ref)
		if err != nil {
			return err
		}
		b.Images = append(b.Images, im)
	}
	// What cannot be is no container, as with other runtimes: one that fails to start is an attempt, and counted.
	if err := r.machine.Look(b); err != nil {
		return err
	}
	return bundle.Write(r.bundleDir(c.ID), b)
}

// imageMount prepares the n-th image that is mounted as a volume.
func (r *Runtime) imageMount(ctx context.Context, c *container, n int, ref spec.ImageRef) (bundle.ImageMount, error) {
	img, err := r.findImage(ctx, ref.Image)
	if err != nil {
		return bundle.ImageMount{}, err
	}
	ms, err := r.cfg.Images.Rootfs(ctx, img, imageKey(c.ID, n), true)
	if err != nil {
		return bundle.ImageMount{}, fmt.Errorf("prepare image %q as a volume: %w", ref.Image, err)
	}
	return bundle.ImageMount{Mounts: mounts(ms), SubPath: ref.SubPath}, nil
}

// imageKey names the snapshot of a container's n-th image mount.
func imageKey(id string, n int) string { return fmt.Sprintf("%s-image-%d", id, n) }

func mounts(in []mount.Mount) []bundle.Mount {
	out := make([]bundle.Mount, 0, len(in))
	for _, m := range in {
		out = append(out, bundle.Mount{Type: m.Type, Source: m.Source, Options: m.Options})
	}
	return out
}

// targetPID is the first process of the container whose PID namespace is to be joined; 0 for none.
func (r *Runtime) targetPID(c *container) (int, error) {
	ns := c.config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if ns.GetPid() != runtimeapi.NamespaceMode_TARGET {
		return 0, nil
	}
	t, err := r.store.container(ns.GetTargetId())
	if err != nil {
		return 0, fmt.Errorf("invalid target container: %w", err)
	}
	if t.SandboxID != c.SandboxID {
		return 0, fmt.Errorf("invalid target container: container %q (sandbox %s) does not belong to sandbox %s", ns.GetTargetId(), t.SandboxID, c.SandboxID)
	}
	st := t.get()
	if st.State != stateRunning {
		return 0, fmt.Errorf("invalid target container: container %q is not running - in state %s", ns.GetTargetId(), st.State)
	}
	return st.PID, nil
}

// containerCreated makes it known. From here on a restart keeps it.
func (r *Runtime) containerCreated(_ context.Context, c *container, _ image.Image) error {
	c.sandbox.mu.Lock()
	defer c.sandbox.mu.Unlock()
	if c.sandbox.removed {
		return status.Errorf(codes.FailedPrecondition, "sandbox %s is being removed", c.SandboxID)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := r.saveContainerLocked(c); err != nil {
		return err
	}
	r.store.addContainer(c)
	return nil
}
