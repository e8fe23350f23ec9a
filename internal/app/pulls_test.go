package app

import (
	"context"
	"testing"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/image"
)

// pullFunc is an image service that only pulls.
type pullFunc struct {
	internalapi.ImageManagerService
	do func() (string, error)
}

func (f pullFunc) PullImage(context.Context, *runtimeapi.ImageSpec, *runtimeapi.AuthConfig, *runtimeapi.PodSandboxConfig) (string, error) {
	return f.do()
}

func TestPullsTellHowFarTheyAre(t *testing.T) {
	var p *pulls
	var during string
	p = newPulls(pullFunc{do: func() (string, error) {
		p.note("docker.io/library/nginx:latest", image.Progress{Ref: "docker.io/library/nginx:latest", Layers: 3, LayersDone: 1, Bytes: 2e6, BytesDone: 1e6})
		during = p.progress("nginx")
		return "sha256:1", nil
	}})
	if id, err := p.PullImage(t.Context(), &runtimeapi.ImageSpec{Image: "nginx:latest"}, nil, nil); id != "sha256:1" || err != nil {
		t.Errorf("pulled %q, %v", id, err)
	}
	if want := "docker.io/library/nginx:latest: 1 of 3 layers, 1MB of 2MB"; during != want {
		t.Errorf("while it was under way: %q, want %q", during, want)
	}
	for _, name := range []string{"nginx", "other", "UPPER::x"} {
		if got := p.progress(name); got != "" {
			t.Errorf("%s: %q with nothing under way", name, got)
		}
	}
}
