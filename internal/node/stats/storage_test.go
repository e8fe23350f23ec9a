package stats

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	testingclock "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/paths"
)

// grow writes a file of so many bytes.
func grow(t *testing.T, path string, bytes int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, bytes), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	count := func() Use {
		u, err := DiskUse(t.Context(), dir, time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	empty := count()
	if empty.Inodes != 1 || !empty.At.Equal(time.Unix(1, 0)) {
		t.Errorf("an empty folder: %+v", empty)
	}
	grow(t, filepath.Join(dir, "a", "b", "file"), 64<<10)
	outside := filepath.Join(t.TempDir(), "outside")
	grow(t, outside, 1<<20)
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a", "b", "file"), filepath.Join(dir, "second name")); err != nil {
		t.Fatal(err)
	}
	u := count()
	if grown := u.Bytes - empty.Bytes; u.Inodes != 5 || grown < 64<<10 || grown > 128<<10 {
		t.Errorf("two folders, a file with two names and a link: %+v", u)
	}
	file, err := DiskUse(t.Context(), filepath.Join(dir, "second name"), time.Time{})
	if err != nil || file.Inodes != 1 || file.Bytes < 64<<10 {
		t.Errorf("a file: %+v, %v", file, err)
	}
	if _, err := DiskUse(t.Context(), filepath.Join(dir, "none"), time.Time{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := DiskUse(ctx, dir, time.Time{}); !errors.Is(err, context.Canceled) {
		t.Errorf("when nobody wants to know: %v", err)
	}
}

// Folders too deep to be counted do not keep the rest from being counted.
func TestDeepFolders(t *testing.T) {
	top := t.TempDir()
	grow(t, filepath.Join(top, "z"), 64<<10)
	dir, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	for range maxDepth + 10 {
		// A path of them all is longer than the kernel takes.
		root, err := os.OpenRoot(dir.Name())
		if err != nil {
			t.Skip("cannot make folders so deep:", err)
		}
		if err := root.Mkdir("d", 0o700); err != nil {
			t.Fatal(err)
		}
		root.Close()
		dir.Close()
		if dir, err = os.Open(filepath.Join(dir.Name(), "d")); err != nil {
			t.Fatal(err)
		}
	}
	dir.Close()
	u, err := DiskUse(t.Context(), top, time.Time{})
	if !errors.Is(err, ErrDeep) || u.Bytes < 64<<10 || u.Inodes < maxDepth {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestWhenToCountAgain(t *testing.T) {
	for _, tc := range []struct {
		took, longest, age time.Duration
		fresh              bool
	}{
		{time.Millisecond, time.Minute, 9 * time.Second, true},
		{time.Millisecond, time.Minute, 10 * time.Second, false},
		{2 * time.Second, time.Minute, 39 * time.Second, true},
		{2 * time.Second, time.Minute, 40 * time.Second, false},
		{time.Hour, time.Minute, time.Minute, false},
		{time.Millisecond, time.Second, time.Second, false},
	} {
		m := measured{at: time.Unix(0, 0), took: tc.took}
		if got := m.fresh(time.Unix(0, 0).Add(tc.age), tc.longest); got != tc.fresh {
			t.Errorf("took %v, at most %v, %v ago: fresh is %v", tc.took, tc.longest, tc.age, got)
		}
	}
}

// runtime says what containers use, and where images are.
type runtime struct {
	internalapi.RuntimeService
	internalapi.ImageManagerService
	at    string
	layer uint64
	asked int
	// files are the runtime's own, by where a container has them; info is how often it was asked for them.
	files map[string]string
	info  int
}

func (r *runtime) ListContainers(_ context.Context, f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	if f.LabelSelector["io.kubernetes.pod.uid"] != "uid" || f.State.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, nil
	}
	return []*runtimeapi.Container{{Id: "one"}, {Id: "two"}}, nil
}

func (r *runtime) ContainerStatus(_ context.Context, _ string, verbose bool) (*runtimeapi.ContainerStatusResponse, error) {
	r.info++
	var mounts []map[string]any
	for at, source := range r.files {
		mounts = append(mounts, map[string]any{"destination": at, "source": source})
	}
	info, err := json.Marshal(map[string]any{"runtimeSpec": map[string]any{"mounts": mounts}})
	if err != nil || !verbose {
		return nil, errors.New("only the verbose status has it")
	}
	return &runtimeapi.ContainerStatusResponse{
		Status: &runtimeapi.ContainerStatus{Mounts: []*runtimeapi.Mount{{ContainerPath: "/etc/hosts"}, {ContainerPath: "/data"}}},
		Info:   map[string]string{"info": string(info)},
	}, nil
}

func (r *runtime) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{{FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: r.at}}}}, nil
}

func (r *runtime) Close(context.Context) error { return nil }

func (r *runtime) ListContainerStats(_ context.Context, f *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	r.asked++
	if f.LabelSelector["io.kubernetes.pod.uid"] != "uid" {
		return nil, nil
	}
	use := func(name string, memory *runtimeapi.MemoryUsage) *runtimeapi.ContainerStats {
		return &runtimeapi.ContainerStats{
			Attributes: &runtimeapi.ContainerAttributes{Metadata: &runtimeapi.ContainerMetadata{Name: name}}, Memory: memory,
			WritableLayer: &runtimeapi.FilesystemUsage{UsedBytes: &runtimeapi.UInt64Value{Value: r.layer}, InodesUsed: &runtimeapi.UInt64Value{Value: 3}},
		}
	}
	return []*runtimeapi.ContainerStats{use("runs", &runtimeapi.MemoryUsage{}), use("ended", nil)}, nil
}

// What a Pod has on disk is its running containers' layers, the logs, the files that are mounted into them one by one and
// the volumes that are its own and not in memory.
func TestStorage(t *testing.T) {
	root := t.TempDir()
	r := &runtime{at: root, layer: 1 << 20, files: map[string]string{
		"/etc/resolv.conf": filepath.Join(root, "resolv.conf"), "/etc/hostname": filepath.Join(root, "hostname"),
		"/data": filepath.Join(root, "theirs"), "/dev/shm": filepath.Join(root, "theirs"),
	}}
	none, err := cgroup.New("/podium-test-none")
	if err != nil {
		t.Skip(err)
	}
	clock := testingclock.NewFakeClock(time.Unix(1_000_000, 0))
	logs, volumes := filepath.Join(root, "logs"), filepath.Join(root, "volumes")
	s := New(Config{
		Paths: paths.Paths{Kubelet: root, Pods: filepath.Join(root, "pods")}, Runtime: r, Images: r, Clock: clock, VolumePeriod: time.Minute, Tree: none,
		PodLogDir: func(*v1.Pod) string { return logs },
		Volume:    func(_ *v1.Pod, name string) (string, error) { return filepath.Join(volumes, name), nil },
	})
	empty := func(medium v1.StorageMedium) v1.VolumeSource {
		return v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: medium}}
	}
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "uid", Name: "p"}, Spec: v1.PodSpec{Volumes: []v1.Volume{
		{Name: "own", VolumeSource: empty("")},
		{Name: "memory", VolumeSource: empty(v1.StorageMediumMemory)},
		{Name: "secret", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{}}},
		{Name: "map", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{}}},
		{Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{}}},
		{Name: "claim", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "mine"}}},
	}}}
	grow(t, filepath.Join(logs, "runs", "0.log"), 8<<10)
	grow(t, filepath.Join(logs, "ended", "0.log"), 1<<20)
	grow(t, filepath.Join(root, "pods", "uid", "etc-hosts"), 4<<10)
	grow(t, filepath.Join(root, "pods", "uid", "containers", "runs", "00000000"), 512<<10)
	grow(t, filepath.Join(root, "resolv.conf"), 512<<10)
	grow(t, filepath.Join(root, "hostname"), 512<<10)
	grow(t, filepath.Join(root, "theirs"), 1<<20)
	for _, name := range []string{"own", "memory", "secret", "map", "host", "claim"} {
		grow(t, filepath.Join(volumes, name, "file"), 256<<10)
	}
	use, err := s.Storage(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if len(use.Containers) != 1 || *use.Containers[0].Rootfs.UsedBytes != 1<<20 || *use.Containers[0].Logs.UsedBytes < 8<<10 || *use.Containers[0].Logs.UsedBytes > 64<<10 {
		t.Errorf("containers: %+v", use.Containers)
	}
	seen := map[string]uint64{}
	for _, v := range use.VolumeStats {
		seen[v.Name] = *v.UsedBytes
		if (v.PVCRef != nil) != (v.Name == "claim") {
			t.Errorf("%s is of the claim %v", v.Name, v.PVCRef)
		}
	}
	if len(seen) != 5 || seen["own"] < 256<<10 || seen["own"] > 512<<10 || seen["host"] != 0 {
		t.Errorf("volumes: %v", seen)
	}
	sum := uint64(1<<20 + 8<<10 + 4<<10 + 2*256<<10 + 3*512<<10)
	if got := *use.EphemeralStorage.UsedBytes; got < sum || got > sum+256<<10 {
		t.Errorf("together %d, want about %d", got, sum)
	}

	grow(t, filepath.Join(volumes, "own", "more"), 1<<20)
	again, err := s.Storage(t.Context(), p)
	if err != nil || *again.EphemeralStorage.UsedBytes != *use.EphemeralStorage.UsedBytes || r.asked != 1 {
		t.Errorf("it is measured again at once (%v)", err)
	}
	clock.Step(10 * time.Second)
	if again, err = s.Storage(t.Context(), p); err != nil || *again.EphemeralStorage.UsedBytes < *use.EphemeralStorage.UsedBytes+1<<20 {
		t.Errorf("it is not measured again (%v)", err)
	}
	if r.info != 2 {
		t.Errorf("the runtime is asked %d times for the files of two containers", r.info)
	}
	s.Forget([]*v1.Pod{p})
	if len(s.disk) == 0 {
		t.Error("a pod that is there is forgotten")
	}
	s.Forget(nil)
	if len(s.disk) != 0 {
		t.Errorf("left: %v", s.disk)
	}
}
