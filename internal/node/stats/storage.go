package stats

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// A count of files is used again for ten seconds, and for longer if it took long: no more than a twentieth of the time
// goes into counting. It is made again after volumeStatsAggPeriod at the latest.
const (
	leastAge = 10 * time.Second
	effort   = 20
)

// measured is something that took time to measure.
type measured struct {
	of    types.UID
	at    time.Time
	took  time.Duration
	use   Use
	inner []stats.ContainerStats
	// volumes are what belongs to emptyDirs, by name; use has the rest.
	volumes map[string]Use
	// files are the files that the runtime has made for containers, by container; they stay from count to count.
	files map[string][]string
}

// fresh reports whether it need not be measured again.
func (m measured) fresh(now time.Time, longest time.Duration) bool {
	return now.Sub(m.at) < min(max(effort*m.took, leastAge), longest)
}

// measure returns what is remembered under a key, or measures it.
func (s *Source) measure(p *v1.Pod, key string, how func(m *measured) error) (measured, error) {
	s.counting.Lock()
	defer s.counting.Unlock()
	s.mu.Lock()
	m, known := s.disk[key]
	s.mu.Unlock()
	now := s.c.Clock.Now()
	if known && m.fresh(now, s.c.VolumePeriod) {
		return m, nil
	}
	m = measured{of: p.UID, at: now, files: m.files}
	if err := how(&m); err != nil {
		return m, err
	}
	m.took = s.c.Clock.Since(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk[key] = m
	return m, nil
}

// Forget drops what was measured of Pods that are not among these.
func (s *Source) Forget(keep []*v1.Pod) {
	known := make(map[types.UID]bool, len(keep))
	for _, p := range keep {
		known[p.UID] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, m := range s.disk {
		if !known[m.of] {
			delete(s.disk, key)
		}
	}
}

// addStorage adds what the Pod has on disk: its logs, its volumes, and all of it together with its containers' writable
// layers, which are there already, and with what is in none of these (hidden).
func (s *Source) addStorage(ctx context.Context, p *v1.Pod, room *stats.FsStats, out *stats.PodStats) {
	log := klog.FromContext(ctx).V(4)
	dir := s.c.PodLogDir(p)
	total := Use{}
	add := func(fs *stats.FsStats) {
		if fs != nil {
			total.Bytes += deref(fs.UsedBytes)
			total.Inodes += deref(fs.InodesUsed)
		}
	}
	for i := range out.Containers {
		c := &out.Containers[i]
		logs, err := files(filepath.Join(dir, c.Name), s.c.Clock.Now())
		if err != nil {
			log.Info("Cannot measure a container's logs", "pod", klog.KObj(p), "containerName", c.Name, "err", err)
			continue
		}
		c.Logs = with(room, logs)
		add(c.Rootfs)
		add(c.Logs)
	}
	if own, err := files(dir, s.c.Clock.Now()); err == nil {
		add(with(room, own))
	}
	hidden, err := s.hidden(ctx, p)
	if err != nil {
		log.Info("Cannot measure files outside of layers, logs and volumes", "pod", klog.KObj(p), "err", err)
	}
	add(with(room, hidden.use))
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		fs, err := s.volume(ctx, p, v)
		if err != nil {
			log.Info("Cannot measure a volume", "pod", klog.KObj(p), "volumeName", v.Name, "err", err)
		}
		if fs == nil {
			continue
		}
		if held, ok := hidden.volumes[v.Name]; ok && fs.UsedBytes != nil && fs.InodesUsed != nil {
			*fs.UsedBytes += held.Bytes
			*fs.InodesUsed += held.Inodes
		}
		out.VolumeStats = append(out.VolumeStats, stats.VolumeStats{Name: v.Name, FsStats: *fs, PVCRef: claimOf(p, v)})
		if ephemeral(v) {
			add(fs)
		}
	}
	total.At = s.c.Clock.Now()
	out.EphemeralStorage = with(room, total)
}

// volume measures a volume; nil for one of a kind that is not measured.
func (s *Source) volume(ctx context.Context, p *v1.Pod, v *v1.Volume) (*stats.FsStats, error) {
	counted := v.EmptyDir != nil || v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
	whole := v.PersistentVolumeClaim != nil || v.Ephemeral != nil
	if s.c.VolumePeriod < 0 || (!counted && !whole) {
		return nil, nil
	}
	path, err := s.c.Volume(p, v.Name)
	if err != nil {
		return nil, err
	}
	disk, err := ReadFileSystem(path, s.c.Clock.Now())
	if err != nil {
		return nil, err
	}
	// A volume in memory is a file system of its own, which counts for itself.
	if whole || (v.EmptyDir != nil && v.EmptyDir.Medium != v1.StorageMediumDefault) {
		return disk.Whole(), nil
	}
	m, err := s.measure(p, path, func(m *measured) (err error) {
		m.use, err = DiskUse(ctx, path, m.at)
		if errors.Is(err, ErrDeep) {
			err = nil // what was counted counts
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return with(disk.Room(), m.use), nil
}

// ephemeral reports whether the volume counts as what its Pod has on disk.
func ephemeral(v *v1.Volume) bool {
	return v.ConfigMap != nil || (v.EmptyDir != nil && v.EmptyDir.Medium == v1.StorageMediumDefault)
}

func claimOf(p *v1.Pod, v *v1.Volume) *stats.PVCReference {
	switch {
	case v.PersistentVolumeClaim != nil:
		return &stats.PVCReference{Namespace: p.Namespace, Name: v.PersistentVolumeClaim.ClaimName}
	case v.Ephemeral != nil:
		return &stats.PVCReference{Namespace: p.Namespace, Name: p.Name + "-" + v.Name}
	}
	return nil
}

// files counts the files right in a folder; none for one that is not there.
func files(dir string, now time.Time) (Use, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Use{At: now}, nil
	}
	if err != nil {
		return Use{}, err
	}
	c := &counter{use: Use{At: now}}
	for _, e := range entries {
		if !e.IsDir() {
			c.file(filepath.Join(dir, e.Name()))
		}
	}
	return c.use, nil
}

func deref(n *uint64) uint64 {
	if n == nil {
		return 0
	}
	return *n
}

func timeOf(nanoseconds int64) metav1.Time { return metav1.NewTime(time.Unix(0, nanoseconds)) }
