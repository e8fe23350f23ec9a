package evict

import (
	"context"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/cgroup"
	"podium.dev/podium/internal/node/stats"
	"podium.dev/podium/internal/paths"
)

// images says where images are.
type images struct {
	internalapi.ImageManagerService
	at string
}

func (i images) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{{FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: i.at}}}}, nil
}

// BenchmarkObserve is what one look at all signals of this machine costs: there is one every ten seconds.
func BenchmarkObserve(b *testing.B) {
	machine, err := cgroup.New("/")
	if err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	source := Measured{Source: stats.New(stats.Config{
		Capacity: v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Ti")}, Paths: paths.Paths{Kubelet: dir, Pods: filepath.Join(dir, "pods")}, Images: images{at: dir},
		Machine: machine, Tree: machine, Clock: clock.RealClock{},
	})}
	var signals []Signal
	for _, m := range meanings {
		signals = append(signals, m.signal)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := source.Observe(b.Context(), signals); err != nil {
			b.Fatal(err)
		}
	}
}
