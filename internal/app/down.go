package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/control"
	"podium.dev/podium/internal/cri"
	"podium.dev/podium/internal/image"
	"podium.dev/podium/internal/netpolicy"
	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/node/config"
	"podium.dev/podium/internal/node/container"
	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/services"
)

// defaultGrace is how long a container is given whose Pod does not say (terminationGracePeriodSeconds' default).
const defaultGrace = 30

// Down stops the daemon of the root, if one runs, then its Pods, each with its grace period, and takes away all
// that the node made on the machine. purge removes its folders too. It can be called again after a failure,
// and without a daemon ever having run. progress is told a line for each step that is done.
func Down(ctx context.Context, p paths.Paths, purge bool, progress func(string)) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("podium down must be root to stop processes and unmount, and runs as user %d; run it with sudo", os.Geteuid())
	}
	if _, err := os.Stat(p.Root); errors.Is(err, os.ErrNotExist) {
		progress("there is no node at " + p.Root)
		return nil
	}
	if err := stopDaemon(ctx, p, progress); err != nil {
		return err
	}
	hold, err := waitUnlocked(p)
	if err != nil {
		return err
	}
	defer hold.release()
	closeLog, err := logTo(Config{Paths: p}.LogFile(), 0)
	if err != nil {
		return err
	}
	defer closeLog()
	if err := stopPods(ctx, p, progress); err != nil {
		return fmt.Errorf("stop the Pods of %s: %w; call podium down again", p.Root, err)
	}
	if err := clearMachine(ctx, p); err != nil {
		return fmt.Errorf("take away what the node made on this machine: %w; call podium down again", err)
	}
	progress("nothing of the node is left on the machine")
	if !purge {
		return nil
	}
	if err := purgeFolders(p); err != nil {
		return fmt.Errorf("remove the node's folders: %w", err)
	}
	progress("removed " + p.Root)
	return nil
}

// stopTries is how often a daemon is asked to stop that ends while it is asked. The second time finds that it is gone;
// the third is for one that was started in between.
const stopTries = 3

// stopDaemon asks the daemon, if there is one, to stop. It does not wait for its end: who holds the root does.
func stopDaemon(ctx context.Context, p paths.Paths, progress func(string)) (err error) {
	for range stopTries {
		switch err = control.NewClient(p.ControlSocket).Stop(ctx); {
		case err == nil:
			progress("asked the daemon to stop")
			return nil
		case errors.Is(err, control.ErrNotRunning):
			return nil
		case !errors.Is(err, control.ErrEnded):
			return fmt.Errorf("ask the daemon of %s to stop: %w", p.Root, err)
		}
	}
	return fmt.Errorf("ask the daemon of %s to stop, %d times: %w", p.Root, stopTries, err)
}

// stopPods stops every container by its grace period and removes every sandbox.
func stopPods(ctx context.Context, p paths.Paths, progress func(string)) (err error) {
	images, err := image.Open(ctx, image.Config{Paths: p})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, images.Close()) }()
	runtime, err := cri.New(ctx, cri.Config{Paths: p, Images: images, Network: noNetwork{}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runtime.Close()) }()
	local := runtime.Local()
	running, err := local.ListContainers(ctx, &runtimeapi.ContainerFilter{
		State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
	})
	if err != nil {
		return err
	}
	if len(running) > 0 {
		progress(fmt.Sprintf("stopping %d containers, each within its Pod's grace period", len(running)))
	}
	if err := stopContainers(ctx, local, running); err != nil {
		return err
	}
	return errors.Join(runtime.StopAll(ctx, 0), runtime.RemoveAll(ctx))
}

// stopContainers stops containers side by side, each by the grace period of its Pod.
func stopContainers(ctx context.Context, runtime internalapi.RuntimeService, running []*runtimeapi.Container) error {
	errs := make([]error, len(running))
	var all sync.WaitGroup
	for i, c := range running {
		grace := int64(defaultGrace)
		if g := container.NotesOf(c.Labels, c.Annotations).TerminationGracePeriod; g != nil {
			grace = *g
		}
		all.Go(func() { errs[i] = runtime.StopContainer(ctx, c.Id, grace) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// noNetwork stands where a runtime that only stops needs a network: what there is of it is taken away whole.
type noNetwork struct{}

func (noNetwork) Setup(context.Context, network.Request) (network.Result, error) {
	return network.Result{}, errors.New("the node is going down")
}
func (noNetwork) Teardown(context.Context, string, string) error { return nil }
func (noNetwork) Ready() error                                   { return nil }

// clearMachine takes away mounts, links, rules and cgroups.
func clearMachine(ctx context.Context, p paths.Paths) error {
	err := errors.Join(network.Remove(ctx, p), services.Remove(p.ID), netpolicy.Remove(p.ID))
	for _, dir := range []string{p.Pods, p.Run, p.ImageStore} {
		err = errors.Join(err, unmountBelow(dir))
	}
	groups, gerr := cgroup.New(p.CgroupParent)
	if gerr != nil {
		return errors.Join(err, gerr)
	}
	err = errors.Join(err, groups.Remove("kubepods"), removeOwnCgroups(ctx, groups))
	if p.CgroupParent != "/" {
		err = errors.Join(err, groups.Remove("/"))
	}
	return err
}

// unmountBelow unmounts all that is mounted below a folder, the last mounted first.
func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("list what is mounted below %s: %w", dir, err)
	}
	var errs []error
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := unix.Unmount(mounts[i].Mountpoint, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", mounts[i].Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}

// purgeFolders removes what the node wrote. Of folders that other programs may use too, such as /var/log/pods,
// only the node's own part goes.
func purgeFolders(p paths.Paths) error {
	klog.Flush()
	errs := []error{removeLogs(p, p.Pods)}
	if err := os.Remove(p.KubeletConfig); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, dir := range p.Owned() {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// logsDir is where the Pods' logs are: where the settings say, or where they would be without any.
func logsDir(p paths.Paths) string {
	if k, err := config.Read(p, config.Machine{}); err == nil {
		return k.PodLogsDir
	}
	return p.PodLogs
}

// removeLogs removes the logs of the Pods that have a folder below pods, and the links that lead to nowhere then.
func removeLogs(p paths.Paths, pods string) error {
	entries, err := os.ReadDir(pods)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	dir := logsDir(p)
	for _, e := range entries {
		logs, _ := filepath.Glob(filepath.Join(dir, "*_"+e.Name())) // the pattern is well formed
		for _, d := range logs {
			errs = append(errs, os.RemoveAll(d))
		}
	}
	links, _ := filepath.Glob(filepath.Join(p.ContainerLogs, "*.log"))
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, dir+"/") {
			if _, err := os.Stat(l); errors.Is(err, os.ErrNotExist) {
				errs = append(errs, os.Remove(l))
			}
		}
	}
	return errors.Join(errs...)
}
