package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/util/inotify"
)

// settle is how long changes of the file are gathered before it is read.
const settle = 50 * time.Millisecond

// Watch checks each edit of the settings of a running node, which keeps those that it was started with: half of
// them could not be changed under running Pods, and a node with a mixture would be neither. So who edits the file
// learns at once what the next start would say.
type Watch struct {
	Paths   paths.Paths
	Machine Machine
	// InForce are the settings that the node was started with.
	InForce *kubeletconfig.KubeletConfiguration
	// Refused is told of an edit that the next start would refuse, Differs of one that it would take, Same that the
	// file says again what is in force.
	Refused func(error)
	Differs func()
	Same    func()
	Clock   clock.Clock

	// told is what was told last: "" for Same.
	told string
}

// Run watches until the context ends. Nothing polls: without the kernel's help edits are found at the next start.
func (w *Watch) Run(ctx context.Context) {
	watcher, err := inotify.New()
	if err == nil {
		_, err = watcher.Follow(filepath.Dir(w.Paths.KubeletConfig))
	}
	if err != nil {
		klog.ErrorS(err, "Edits of the node's settings are not checked before the next start", "path", w.Paths.KubeletConfig)
		return
	}
	changes := watcher.Changes(ctx, func(err error) {
		klog.ErrorS(err, "The watch of the node's settings ended", "path", w.Paths.KubeletConfig)
	})
	w.look()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
			due = nil
			w.look()
		case list := <-changes:
			if due == nil && w.concerned(list) {
				due = w.Clock.After(settle)
			}
		}
	}
}

// concerned reports whether the file was written to its end, or put in place, among these changes.
func (w *Watch) concerned(list []inotify.Change) bool {
	for _, c := range list {
		if c.Name == filepath.Base(w.Paths.KubeletConfig) && c.Mask&(unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO) != 0 {
			return true
		}
	}
	return false
}

// look reads the file and tells what is new of it.
func (w *Watch) look() {
	config, err := Read(w.Paths, w.Machine)
	if errors.Is(err, fs.ErrNotExist) {
		return // the next start writes it again
	}
	now := ""
	switch {
	case err != nil:
		now = err.Error()
	case !equality.Semantic.DeepEqual(config, w.InForce):
		now = fmt.Sprintf("%+v", config)
	}
	if now == w.told {
		return
	}
	w.told = now
	switch {
	case err != nil:
		w.Refused(err)
	case now != "":
		w.Differs()
	default:
		w.Same()
	}
}
