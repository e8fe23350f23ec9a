package app

import (
	"context"
	"fmt"
	"time"

	criclient "k8s.io/cri-client/pkg"
)

// remoteTimeout is how long a call of another runtime may take (the kubelet's runtimeRequestTimeout).
const remoteTimeout = 2 * time.Minute

// connectRuntime uses another CRI runtime in place of Podium's own.
func (d *daemon) connectRuntime(ctx context.Context) (err error) {
	if d.runtime, err = criclient.NewRemoteRuntimeService(ctx, d.c.RuntimeEndpoint, remoteTimeout, nil, false); err != nil {
		return fmt.Errorf("reach the runtime at --container-runtime-endpoint %s: %w", d.c.RuntimeEndpoint, err)
	}
	if d.imageAPI, err = criclient.NewRemoteImageService(ctx, d.c.RuntimeEndpoint, remoteTimeout, nil, false); err != nil {
		return fmt.Errorf("reach the images of the runtime at --container-runtime-endpoint %s: %w", d.c.RuntimeEndpoint, err)
	}
	return nil
}
