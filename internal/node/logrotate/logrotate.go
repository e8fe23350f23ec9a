// Package logrotate keeps the logs of running containers below a size: it puts a full log aside, has the
// runtime open a new one, and compresses and removes the old ones, as the kubelet does (containerLogMaxSize,
// containerLogMaxFiles).
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

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// stamp is the form of the time in a rotated log's name; it sorts by age.
	stamp = "20060102-150405"
	// compressed and partial end the names of compressed logs and of those being compressed.
	compressed = ".gz"
	partial    = ".tmp"
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
		path := status.GetStatus().GetLogPath()
		info, err := os.Stat(path)
		if path == "" || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
		} else if info.Size() >= r.c.MaxSize {
			errs = append(errs, r.rotate(ctx, c.Id, path))
		}
	}
	return errors.Join(errs...)
}

// rotate puts one log aside.
func (r *Rotator) rotate(ctx context.Context, id, path string) error {
	old, err := filepath.Glob(path + ".*")
	if err != nil {
		return fmt.Errorf("list the old logs of %s: %w", path, err)
	}
	remove, compress := decide(old, r.c.MaxFiles)
	var errs []error
	for _, f := range remove {
		errs = append(errs, os.Remove(f))
	}
	for _, f := range compress {
		errs = append(errs, compressFile(f))
	}
	aside := path + "." + r.c.Clock.Now().Format(stamp)
	if err := os.Rename(path, aside); err != nil {
		return errors.Join(append(errs, err)...)
	}
	if err := r.c.Runtime.ReopenContainerLog(ctx, id); err != nil {
		// The container still writes to the file that was renamed: give it its name back, lose nothing.
		return errors.Join(append(errs, fmt.Errorf("have container %s open a new log: %w", id, err), os.Rename(aside, path))...)
	}
	return errors.Join(errs...)
}

// decide says, of a container's old logs, which go and which are compressed so that with the one about to be
// put aside and the one to be written there are at most maxFiles.
func decide(old []string, maxFiles int) (remove, compress []string) {
	have := map[string]bool{}
	for _, f := range old {
		have[f] = true
	}
	var keep []string
	for _, f := range old {
		switch {
		case strings.HasSuffix(f, partial): // a compression that did not end
			remove = append(remove, f)
		case !strings.HasSuffix(f, compressed) && have[f+compressed]: // one that ended, but for the removal
			remove = append(remove, f)
		default:
			keep = append(keep, f)
		}
	}
	slices.Sort(keep)
	if extra := len(keep) - (maxFiles - 2); extra > 0 {
		remove = append(remove, keep[:extra]...)
		keep = keep[extra:]
	}
	for _, f := range keep {
		if !strings.HasSuffix(f, compressed) {
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
	to, err := os.OpenFile(path+partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(to)
	_, err = io.Copy(z, from)
	if err = errors.Join(err, z.Close(), to.Close()); err != nil {
		return errors.Join(fmt.Errorf("compress %s: %w", path, err), os.Remove(path+partial))
	}
	if err := os.Rename(path+partial, path+compressed); err != nil {
		return err
	}
	return os.Remove(path)
}
