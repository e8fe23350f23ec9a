package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Container builds the configuration of a container, and makes the files on the host that it needs. The
// error's Reason is what the container's status says it waits for, its text the status's message.
func (b *Builder) Container(ctx context.Context, in Input) (*runtimeapi.ContainerConfig, error) {
	config, err := b.container(ctx, in)
	if err != nil {
		return nil, because(ReasonConfig, err)
	}
	return config, nil
}

func (b *Builder) container(ctx context.Context, in Input) (*runtimeapi.ContainerConfig, error) {
	c := in.Container
	devices, err := b.devices(in.Pod, c)
	if err != nil {
		return nil, err
	}
	env, err := b.environment(ctx, in)
	if err != nil {
		return nil, err
	}
	mounts, err := b.mounts(in, env)
	if err != nil {
		return nil, err
	}
	security, err := b.security(in)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(b.PodLogDir(in.Pod), c.Name), 0o755); err != nil {
		return nil, fmt.Errorf("create container log directory for container %s failed: %w", c.Name, err)
	}
	return &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: in.Attempt},
		Image:       &runtimeapi.ImageSpec{Image: in.ImageRef, UserSpecifiedImage: c.Image},
		Command:     expandAll(c.Command, env.lookup),
		Args:        expandAll(c.Args, env.lookup),
		WorkingDir:  c.WorkingDir,
		Envs:        env.keyValues(),
		Mounts:      withUsers(mounts, security.NamespaceOptions.UsernsOptions),
		Devices:     devices,
		Labels:      ContainerLabels(in.Pod, c.Name),
		Annotations: ContainerAnnotations(in.Pod, c, in.Attempt),
		LogPath:     LogPath(c.Name, in.Attempt),
		Stdin:       c.Stdin,
		StdinOnce:   c.StdinOnce,
		Tty:         c.TTY,
		StopSignal:  stopSignal(c),
		Linux:       &runtimeapi.LinuxContainerConfig{Resources: b.Resources(in.Pod, c), SecurityContext: security},
	}, nil
}

// stopSignal is the signal that the spec asks a container to be ended with; the default is the image's.
func stopSignal(c *v1.Container) runtimeapi.Signal {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT
	}
	name := strings.NewReplacer("+", "PLUS", "-", "MINUS").Replace(string(*c.Lifecycle.StopSignal))
	return runtimeapi.Signal(runtimeapi.Signal_value["SIGNAL_"+name])
}
