package app

import (
	"context"
	"sync"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/cri"
	"podium.dev/podium/internal/image"
)

// pulls is the runtime's image service, and tells how far the pulls have come that go through it.
type pulls struct {
	internalapi.ImageManagerService

	mu  sync.Mutex
	now map[string]image.Progress // by full reference
}

func newPulls(images internalapi.ImageManagerService) *pulls {
	return &pulls{ImageManagerService: images, now: map[string]image.Progress{}}
}

// PullImage implements internalapi.ImageManagerService.
func (p *pulls) PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	if ref, err := image.Normalize(spec.GetImage()); err == nil {
		// Two pulls of one image are one transfer, and so end together.
		defer p.forget(ref)
		ctx = cri.WithPullProgress(ctx, func(at cri.PullProgress) { p.note(ref, at) })
	}
	return p.ImageManagerService.PullImage(ctx, spec, auth, sandbox)
}

func (p *pulls) note(ref string, at image.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now[ref] = at
}

func (p *pulls) forget(ref string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.now, ref)
}

// progress says how far the pull of an image, by any of its names, has come; "" when none is under way.
func (p *pulls) progress(name string) string {
	ref, err := image.Normalize(name)
	if err != nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.now[ref]
	if !ok {
		return ""
	}
	return progressLine(at)
}
