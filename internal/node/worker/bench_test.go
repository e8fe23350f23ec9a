package worker

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/node/pull"
	"podium.dev/podium/internal/podutil"
)

// BenchmarkPods brings 500 Pods up on a runtime that takes no time, and says what the workers cost.
func BenchmarkPods(b *testing.B) {
	const pods = 500
	for b.Loop() {
		n := &node{clock: clocktesting.NewFakeClock(time.Now()), volumes: &fakeVolumes{}, probes: &fakeProbes{}, hooks: &fakeHooks{}}
		n.logs = b.TempDir()
		rt := newFakeRuntime(clock.RealClock{})
		m := New(Config{
			Runtime: rt, ImageService: rt, Images: pull.New(pull.Config{Images: rt}),
			Builder: n, Volumes: n.volumes, Probes: n.probes, Hooks: n.hooks, Cgroups: fakeCgroups{n.runtime},
		})
		ctx, cancel := context.WithCancel(b.Context())
		go func() { _ = m.Run(ctx) }()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		begun := time.Now()
		for i := range pods {
			p := newPod(func(p *v1.Pod) {
				p.Name = fmt.Sprintf("p%d", i)
				p.UID = types.UID(p.Name)
				p.Annotations = map[string]string{podutil.SourceAnnotation: "file"}
			})
			m.UpdatePod("file", p)
		}
		for up := 0; up < pods; {
			up = 0
			for _, p := range m.Pods() {
				if p.Status.Phase == v1.PodRunning {
					up++
				}
			}
		}
		took := time.Since(begun)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(took.Microseconds())/pods, "µs/pod")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/pods/1024, "KiB/pod")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/pods/1024, "stackKiB/pod")
		cancel()
	}
}
