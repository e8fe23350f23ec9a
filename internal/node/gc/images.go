// Package gc removes images that no container uses, in the kubelet's way: those that were not used for too long, and,
// when the disk is full, those that were not used for longest, until there is room again.
package gc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// period is the time between two looks (the kubelet's own).
const period = 5 * time.Minute

// Policy says which images go.
type Policy struct {
	// High is how full in percent the disk may be; when it is fuller, images go until it is as full as Low.
	High, Low int
	// MinAge is how long an image must be here before it goes for want of room; MaxAge is how long one may be unused at
	// most, 0 for ever.
	MinAge, MaxAge time.Duration
}

// Config is what an Images is made from.
type Config struct {
	Policy  Policy
	Runtime internalapi.RuntimeService
	Images  internalapi.ImageManagerService
	// Room answers how many bytes the images' file system has, and how many of them are free.
	Room     func(ctx context.Context) (capacity, available uint64, err error)
	Recorder record.EventRecorder
	Node     func() *v1.ObjectReference
	Clock    clock.WithTicker
}

// Images looks after the node's images.
type Images struct {
	c     Config
	began time.Time
	turn  chan struct{} // holds a token while somebody works on records
	// records are the images that are here, by ID.
	records map[string]*imageRecord
}

// New makes an Images; nothing is touched before Run or FreeAll.
func New(c Config) *Images {
	return &Images{c: c, began: c.Clock.Now(), turn: make(chan struct{}, 1), records: map[string]*imageRecord{}}
}

// Run looks after the images until ctx ends. Where none are to go by themselves, it still takes note of what is used.
func (g *Images) Run(ctx context.Context) {
	look := g.Collect
	if g.c.Policy.High == 100 && g.c.Policy.MaxAge == 0 {
		look = g.note
	}
	tick := g.c.Clock.NewTicker(period)
	defer tick.Stop()
	failed := false
	for {
		failed = g.tell(ctx, look(ctx), failed)
		select {
		case <-ctx.Done():
			return
		case <-tick.C():
		}
	}
}

// note takes note of the images that are here and of those that are used.
func (g *Images) note(ctx context.Context) error {
	done, err := g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	_, err = g.idle(ctx, g.c.Clock.Now())
	return err
}

// tell tells of an error, and reports whether there was one; a second in a row is an event.
func (g *Images) tell(ctx context.Context, err error, before bool) (failed bool) {
	if err == nil || ctx.Err() != nil {
		return false
	}
	klog.FromContext(ctx).Error(err, "Could not free the disk of unused images")
	if before {
		g.c.Recorder.Event(g.c.Node(), v1.EventTypeWarning, "ImageGCFailed", err.Error())
	}
	return true
}

// Collect removes the images that have to go by the policy. The error also says that this was not enough.
func (g *Images) Collect(ctx context.Context) error {
	done, err := g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	now := g.c.Clock.Now()
	idle, err := g.idle(ctx, now)
	if err != nil {
		return err
	}
	if idle, err = g.removeOld(ctx, idle, now); err != nil {
		return err
	}
	capacity, available, err := g.c.Room(ctx)
	if err != nil {
		return err
	}
	if capacity == 0 {
		err := errors.New("invalid capacity 0 on image filesystem")
		g.c.Recorder.Event(g.c.Node(), v1.EventTypeWarning, "InvalidDiskCapacity", err.Error())
		return err
	}
	used, excess := g.c.Policy.excess(capacity, available)
	if excess <= 0 {
		return nil
	}
	klog.FromContext(ctx).Info("The disk of images is too full; removing unused ones", "usage", used, "highThreshold", g.c.Policy.High,
		"lowThreshold", g.c.Policy.Low, "amountToFree", excess)
	freed, err := g.remove(ctx, g.c.Policy.ripe(idle, now), excess)
	if err != nil {
		return err
	}
	if freed < excess {
		message := fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %s used). "+
			"Failed to free sufficient space by deleting unused images (freed %d bytes). "+
			"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.", used, size(capacity), freed)
		g.c.Recorder.Event(g.c.Node(), v1.EventTypeWarning, "FreeDiskSpaceFailed", message)
		return errors.New(message)
	}
	return nil
}

// FreeAll removes all images that nobody uses but those that have just come.
func (g *Images) FreeAll(ctx context.Context) error {
	done, err := g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	now := g.c.Clock.Now()
	idle, err := g.idle(ctx, now)
	if err != nil {
		return err
	}
	_, err = g.remove(ctx, g.c.Policy.ripe(idle, now), math.MaxInt64)
	return err
}

// begin waits until nobody else works on the images.
func (g *Images) begin(ctx context.Context) (done func(), err error) {
	select {
	case g.turn <- struct{}{}:
		return func() { <-g.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// idle brings the records up to date and returns the images that nobody uses and that may go.
func (g *Images) idle(ctx context.Context, now time.Time) ([]imageRecord, error) {
	images, err := g.c.Images.ListImages(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list the images: %w", err)
	}
	used, err := g.used(ctx)
	if err != nil {
		return nil, err
	}
	return update(g.records, images, used, now), nil
}

// used are the IDs of the images that containers are made from or have as volumes, whether or not they run.
func (g *Images) used(ctx context.Context) (map[string]bool, error) {
	containers, err := g.c.Runtime.ListContainers(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list the containers that use images: %w", err)
	}
	used := map[string]bool{}
	for _, c := range containers {
		used[c.ImageId] = true
		status, err := g.c.Runtime.ContainerStatus(ctx, c.Id, false)
		if err != nil {
			continue // it is gone
		}
		for _, m := range status.GetStatus().GetMounts() {
			if image := m.GetImage().GetImage(); image != "" {
				used[image] = true
			}
		}
	}
	return used, nil
}

// removeOld removes the images that were not used for too long, and returns the others.
func (g *Images) removeOld(ctx context.Context, idle []imageRecord, now time.Time) ([]imageRecord, error) {
	// What was used before this run of the node is not known: it has to be as old as an image may be.
	if g.c.Policy.MaxAge == 0 || now.Sub(g.began) <= g.c.Policy.MaxAge {
		return idle, nil
	}
	var old, rest []imageRecord
	for _, r := range idle {
		if now.Sub(r.lastUsed) > g.c.Policy.MaxAge {
			old = append(old, r)
		} else {
			rest = append(rest, r)
		}
	}
	if _, err := g.remove(ctx, old, math.MaxInt64); err != nil {
		return nil, fmt.Errorf("wanted to free images older than %v, encountered errors in image deletion: %w", g.c.Policy.MaxAge, err)
	}
	return rest, nil
}

// remove removes images in order until so many bytes are free, and answers how many that freed.
func (g *Images) remove(ctx context.Context, images []imageRecord, bytes int64) (freed int64, err error) {
	var failed []error
	for _, r := range images {
		if freed >= bytes {
			break
		}
		klog.FromContext(ctx).Info("Removing an image that nobody uses", "imageID", r.id, "size", r.size)
		if err := g.c.Images.RemoveImage(ctx, &runtimeapi.ImageSpec{Image: r.id}); err != nil {
			failed = append(failed, err)
			continue
		}
		delete(g.records, r.id)
		freed += r.size
	}
	if len(failed) > 0 {
		return freed, fmt.Errorf("wanted to free %d bytes, but freed %d bytes space with errors in image deletion: %w", bytes, freed, errors.Join(failed...))
	}
	return freed, nil
}
