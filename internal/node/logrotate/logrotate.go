// Package logrotate keeps the logs of running containers below a size, as the kubelet does (containerLogMaxSize,
// containerLogMaxFiles). The shims put full logs aside themselves, for a container writes a disk full between two looks;
// what is left for the node are the logs of runtimes that do not, and of shims of older versions: it puts those aside and
// has the runtime open new ones. It compresses and removes the old logs of all.
package logrotate

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/logfile"
)

// Config is what a Rotator is made of.
type Config struct {
	Runtime internalapi.RuntimeService
	// MaxSize is the size in bytes at which a log is put aside.
	MaxSize int64
	// MaxFiles is how many files a container's log may have, the one being written among them; at least 2.
	MaxFiles int
	// Every is the time between two looks at the logs' sizes (containerLogMonitorInterval).
	Every time.Duration
	Clock clock.WithTicker
}

// Rotator rotates the logs of a node's containers.
type Rotator struct{ c Config }

// New makes a Rotator.
func New(c Config) *Rotator { return &Rotator{c} }

// Run looks at the logs now and then until the context ends. What cannot be rotated is logged and tried again.
func (r *Rotator) Run(ctx context.Context) {
	tick := r.c.Clock.NewTicker(r.c.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C():
			if err := r.rotateAll(ctx); err != nil {
				klog.FromContext(ctx).Error(err, "Could not rotate the containers' logs")
			}
		}
	}
}

func (r *Rotator) rotateAll(ctx context.Context) error {
	running, err := r.c.Runtime.ListContainers(ctx, &runtimeapi.ContainerFilter{
		State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
	})
	if err != nil {
		return fmt.Errorf("list the running containers: %w", err)
	}
	var errs []error
	for _, c := range running {
		status, err := r.c.Runtime.ContainerStatus(ctx, c.Id, false)
		if err != nil {
			continue // it has ended; its log is rotated no more
		}
		if path := status.GetStatus().GetLogPath(); path != "" {
			errs = append(errs, r.look(ctx, c.Id, path))
		}
	}
	return errors.Join(errs...)
}

// look puts one log aside if it is full, and tidies up what was put aside before, by whomever.
func (r *Rotator) look(ctx context.Context, id, path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	full := info.Size() >= r.c.MaxSize
	newest, err := r.tidy(path, full)
	if err != nil || !full {
		return err
	}
	return r.rotate(ctx, id, path, newest)
}

// tidy removes and compresses the old logs at path, and returns the name of the newest. The shim may put the log aside
// and remove old ones at the same time: files that are gone by then are none of its errors.
func (r *Rotator) tidy(path string, full bool) (newest string, err error) {
	old, err := filepath.Glob(path + ".*")
	if err != nil || len(old) == 0 {
		return "", err
	}
	if aside, err := logfile.Aside(path); err == nil && len(aside) > 0 {
		newest = aside[len(aside)-1]
	}
	var errs []error
	remove, compress := decide(old, r.c.MaxFiles, full)
	for _, f := range remove {
		errs = append(errs, gone(os.Remove(f)))
	}
	for _, f := range compress {
		errs = append(errs, gone(compressFile(f)))
	}
	return newest, errors.Join(errs...)
}

// gone drops the error of a file that another has removed.
func gone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// rotate puts one log aside.
func (r *Rotator) rotate(ctx context.Context, id, path, newest string) error {
	aside := logfile.Next(path, newest, r.c.Clock.Now())
	if err := os.Rename(path, aside); err != nil {
		return gone(err)
	}
	if err := r.c.Runtime.ReopenContainerLog(ctx, id); err != nil {
		// The container still writes to the file that was renamed: give it its name back, lose nothing.
		return errors.Join(fmt.Errorf("have container %s open a new log: %w", id, err), unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE))
	}
	return nil
}

// decide chooses, of a container's old logs, which go and which are compressed. With one more that is about to be put
// aside (full) and the one that is written there are at most maxFiles. The newest stays as it is until another one is
// put aside, as with the kubelet: it is what readers look for first.
func decide(old []string, maxFiles int, full bool) (remove, compress []string) {
	have := map[string]bool{}
	for _, f := range old {
		have[f] = true
	}
	var keep []string
	for _, f := range old {
		switch {
		case strings.HasSuffix(f, logfile.Partial): // a compression that did not end
			remove = append(remove, f)
		case !strings.HasSuffix(f, logfile.Compressed) && have[f+logfile.Compressed]: // one that ended, but for the removal
			remove = append(remove, f)
		default:
			keep = append(keep, f)
		}
	}
	slices.Sort(keep)
	room := maxFiles - 1
	if full {
		room--
	}
	if extra := len(keep) - room; extra > 0 {
		remove = append(remove, keep[:extra]...)
		keep = keep[extra:]
	}
	for i, f := range keep {
		if newest := i == len(keep)-1 && !full; !newest && !strings.HasSuffix(f, logfile.Compressed) {
			compress = append(compress, f)
		}
	}
	return remove, compress
}

// compressFile replaces a file by its gzip in a way that a crash leaves one or the other whole.
func compressFile(path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+logfile.Partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(to)
	_, err = io.Copy(z, from)
	if err = errors.Join(err, z.Close(), to.Close()); err != nil {
		return errors.Join(fmt.Errorf("compress %s: %w", path, err), os.Remove(path+logfile.Partial))
	}
	if err := os.Rename(path+logfile.Partial, path+logfile.Compressed); err != nil {
		return err
	}
	return os.Remove(path)
}
