package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	testingclock "k8s.io/utils/clock/testing"
)

// store is a runtime with images and containers; each image takes as much of the disk as its size says.
type store struct {
	internalapi.RuntimeService
	internalapi.ImageManagerService
	images     []*runtimeapi.Image
	containers []*runtimeapi.Container
	volumes    map[string]string // the image that a container mounts
	capacity   uint64
	available  uint64
	broken     map[string]bool
}

func (s *store) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	return s.images, nil
}

func (s *store) ListContainers(context.Context, *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	return s.containers, nil
}

func (s *store) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	status := &runtimeapi.ContainerStatus{Id: id}
	if image := s.volumes[id]; image != "" {
		status.Mounts = []*runtimeapi.Mount{{Image: &runtimeapi.ImageSpec{Image: image}}}
	}
	return &runtimeapi.ContainerStatusResponse{Status: status}, nil
}

func (s *store) Close(context.Context) error { return nil }

func (s *store) RemoveImage(_ context.Context, spec *runtimeapi.ImageSpec) error {
	if s.broken[spec.Image] {
		return errors.New("read-only file system")
	}
	s.images = slices.DeleteFunc(s.images, func(i *runtimeapi.Image) bool {
		if i.Id == spec.Image {
			s.available += i.Size
		}
		return i.Id == spec.Image
	})
	return nil
}

func (s *store) room(context.Context) (uint64, uint64, error) { return s.capacity, s.available, nil }

func (s *store) has() string {
	var ids []string
	for _, i := range s.images {
		ids = append(ids, i.Id)
	}
	return strings.Join(ids, " ")
}

func image(id string, size uint64) *runtimeapi.Image { return &runtimeapi.Image{Id: id, Size: size} }

// newStore has the images a to e of 100 bytes each on a disk of 1000; a container runs c, another has d as a volume,
// and e is pinned.
func newStore(available uint64) *store {
	s := &store{
		images:     []*runtimeapi.Image{image("a", 100), image("b", 100), image("c", 100), image("d", 100), image("e", 100)},
		containers: []*runtimeapi.Container{{Id: "1", ImageId: "c"}, {Id: "2", ImageId: "gone"}},
		volumes:    map[string]string{"2": "d"}, capacity: 1000, available: available, broken: map[string]bool{},
	}
	s.images[4].Pinned = true
	return s
}

func collector(s *store, p Policy) (*Images, *testingclock.FakeClock, *record.FakeRecorder) {
	clock, events := testingclock.NewFakeClock(time.Unix(1_000_000, 0)), record.NewFakeRecorder(20)
	return New(Config{
		Policy: p, Runtime: s, Images: s, Room: s.room, Recorder: events, Node: func() *v1.ObjectReference { return &v1.ObjectReference{Kind: "Node", Name: "n"} }, Clock: clock,
	}), clock, events
}

func TestImagesGoUntilThereIsRoom(t *testing.T) {
	s := newStore(200)
	g, clock, _ := collector(s, Policy{High: 75, Low: 70, MinAge: time.Minute})
	err := g.Collect(t.Context())
	if err == nil || s.has() != "a b c d e" {
		t.Fatalf("images that have just come went: %s, %v", s.has(), err)
	}
	clock.Step(2 * time.Minute)
	s.containers = append(s.containers, &runtimeapi.Container{Id: "3", ImageId: "a"})
	if err := g.note(t.Context()); err != nil { // a is used now, b never was
		t.Fatal(err)
	}
	s.containers = s.containers[:2]
	if err := g.Collect(t.Context()); err != nil || s.has() != "a c d e" {
		t.Errorf("at 80%%: %s, %v", s.has(), err)
	}
	if err := g.Collect(t.Context()); err != nil || s.has() != "a c d e" {
		t.Errorf("at 70%%: %s, %v", s.has(), err)
	}
}

func TestNotEnoughRoom(t *testing.T) {
	s := newStore(10)
	g, clock, events := collector(s, Policy{High: 85, Low: 10, MinAge: time.Minute})
	if err := g.note(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock.Step(time.Minute)
	err := g.Collect(t.Context())
	want := "Insufficient free disk space on the node's image filesystem (99% of 1000 B used). Failed to free sufficient space by deleting unused images (freed 200 bytes). " +
		"Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
	if err == nil || err.Error() != want || s.has() != "c d e" {
		t.Errorf("%s: %v", s.has(), err)
	}
	if got := <-events.Events; got != "Warning FreeDiskSpaceFailed "+want {
		t.Errorf("event %q", got)
	}
}

func TestInvalidCapacity(t *testing.T) {
	s := newStore(0)
	s.capacity = 0
	g, _, events := collector(s, Policy{High: 85, Low: 80})
	if err := g.Collect(t.Context()); err == nil || <-events.Events != "Warning InvalidDiskCapacity invalid capacity 0 on image filesystem" {
		t.Errorf("got %v", err)
	}
}

func TestOldImagesGo(t *testing.T) {
	s := newStore(900)
	g, clock, _ := collector(s, Policy{High: 85, Low: 80, MaxAge: time.Hour})
	if err := g.note(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock.Step(time.Hour)
	if err := g.Collect(t.Context()); err != nil || s.has() != "a b c d e" {
		t.Errorf("who knows what was used before the node came up? %s, %v", s.has(), err)
	}
	clock.Step(time.Second)
	if err := g.Collect(t.Context()); err != nil || s.has() != "c d e" {
		t.Errorf("after an hour: %s, %v", s.has(), err)
	}
}

func TestFreeAll(t *testing.T) {
	s := newStore(1000)
	g, clock, _ := collector(s, Policy{High: 100, Low: 80, MinAge: time.Minute})
	if err := g.note(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock.Step(time.Minute)
	s.images = append(s.images, image("new", 100))
	s.broken["a"] = true
	if err := g.FreeAll(t.Context()); err == nil || !strings.Contains(err.Error(), "read-only file system") || s.has() != "a c d e new" {
		t.Errorf("%s: %v", s.has(), err)
	}
}

// A second failure in a row is an event, and a success ends the row.
func TestFailuresAreTold(t *testing.T) {
	g, _, events := collector(newStore(0), Policy{High: 100})
	failed := false
	for i, err := range []error{errors.New("one"), errors.New("two"), nil, errors.New("four")} {
		failed = g.tell(t.Context(), err, failed)
		if failed != (err != nil) {
			t.Errorf("%d: failed is %v", i, failed)
		}
	}
	close(events.Events)
	var got []string
	for e := range events.Events {
		got = append(got, e)
	}
	if fmt.Sprint(got) != "[Warning ImageGCFailed two]" {
		t.Errorf("events %q", got)
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 3 << 19: "1.5 MiB", 5 << 30: "5.0 GiB", 3 << 40: "3.0 TiB", 2 << 50: "2048.0 TiB"} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %q, want %q", bytes, got, want)
		}
	}
}
