package container

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/node/expand"
	"podium.dev/podium/internal/node/poddir"
)

// mounts are a container's volumes, its hosts file where it brings none, and the file that it may leave a
// last message in.
func (b *Builder) mounts(in Input, env *environment) ([]*runtimeapi.Mount, error) {
	var points []point
	ownHosts := false
	for i := range in.Container.VolumeMounts {
		vm := &in.Container.VolumeMounts[i]
		ownHosts = ownHosts || vm.MountPath == etcHosts
		m, err := b.mount(in, vm, i, env)
		if err != nil {
			return nil, err
		}
		points = append(points, point{m, managed(volumeNamed(in.Pod, vm.Name))})
	}
	if !ownHosts {
		hosts, err := b.hostsMount(in.Pod, in.PodIPs)
		if err != nil {
			return nil, err
		}
		if hosts != nil {
			points = append(points, point{Mount: hosts})
		}
	}
	if message := b.messageMount(in); message != nil {
		points = append(points, point{Mount: message})
	}
	if err := makeMountPoints(points); err != nil {
		return nil, err
	}
	mounts := make([]*runtimeapi.Mount, len(points))
	for i, p := range points {
		mounts[i] = p.Mount
	}
	return mounts, nil
}

func (b *Builder) mount(in Input, vm *v1.VolumeMount, index int, env *environment) (*runtimeapi.Mount, error) {
	vol := volumeNamed(in.Pod, vm.Name)
	if vol == nil {
		return nil, missingVolume(vm.Name, in.Container)
	}
	sub, err := subPath(vm, env)
	if err != nil {
		return nil, err
	}
	m := &runtimeapi.Mount{
		ContainerPath: absolute(vm.MountPath),
		Readonly:      vm.ReadOnly || readOnlyVolume(vol),
		MountOptions:  vm.BindMountOptions,
	}
	if m.Propagation, err = propagation(vm.MountPropagation); err != nil {
		return nil, err
	}
	if m.RecursiveReadOnly, err = recursiveReadOnly(vm, b.cfg.Machine.RecursiveReadOnly); err != nil {
		return nil, fmt.Errorf("failed to resolve recursive read-only mode: %w", err)
	}
	if vol.Image != nil {
		m.Image, m.ImageSubPath = in.ImageVolumes[vm.Name], sub
		if m.Image == nil {
			m.Image = &runtimeapi.ImageSpec{Image: vol.Image.Reference, UserSpecifiedImage: vol.Image.Reference}
		}
		return m, nil
	}
	if m.HostPath, err = b.hostPath(in.Pod, vm.Name); err != nil {
		klog.V(3).InfoS("Volume is not there", "pod", klog.KObj(in.Pod), "volume", vm.Name, "err", err)
		return nil, missingVolume(vm.Name, in.Container)
	}
	if sub != "" {
		m.HostPath, err = b.cfg.Volumes.SubPath(in.Pod, vm.Name, in.Container.Name, index, sub)
	}
	m.SelinuxRelabel = managed(vol) && selinuxEnabled()
	return m, err
}

func missingVolume(name string, c *v1.Container) error {
	return fmt.Errorf("cannot find volume %q to mount into container %q", name, c.Name)
}

func volumeNamed(pod *v1.Pod, name string) *v1.Volume {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return &pod.Spec.Volumes[i]
		}
	}
	return nil
}

// readOnlyVolume reports volumes that no container may write to, whatever its mount says.
func readOnlyVolume(v *v1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil || v.Image != nil ||
		(v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly)
}

// managed reports volumes whose files are the node's own, so that their labels may be changed.
func managed(v *v1.Volume) bool {
	return v.EmptyDir != nil || v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

func absolute(p string) string {
	if path.IsAbs(p) {
		return p
	}
	return "/" + p
}

// subPath is the path inside a volume that a mount shows, with variables put in; "" for the whole volume.
func subPath(vm *v1.VolumeMount, env *environment) (string, error) {
	sub := vm.SubPath
	if vm.SubPathExpr != "" {
		var missing []string
		sub = expand.Expand(vm.SubPathExpr, func(name string) (string, bool) {
			value, _ := env.lookup(name)
			if value == "" && !slices.Contains(missing, name) {
				missing = append(missing, name)
			}
			return value, true
		})
		if len(missing) > 0 {
			slices.Sort(missing)
			return "", fmt.Errorf("missing value for %s", strings.Join(missing, ", "))
		}
	}
	switch {
	case path.IsAbs(sub):
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", sub)
	case slices.Contains(strings.Split(sub, "/"), ".."):
		return "", fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", sub)
	}
	return sub, nil
}

func propagation(mode *v1.MountPropagationMode) (runtimeapi.MountPropagation, error) {
	switch {
	case mode == nil || *mode == v1.MountPropagationNone:
		return runtimeapi.MountPropagation_PROPAGATION_PRIVATE, nil
	case *mode == v1.MountPropagationHostToContainer:
		return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, nil
	case *mode == v1.MountPropagationBidirectional:
		return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL, nil
	}
	return 0, fmt.Errorf("invalid MountPropagation mode: %q", *mode)
}

func recursiveReadOnly(vm *v1.VolumeMount, supported bool) (bool, error) {
	if vm.RecursiveReadOnly == nil || *vm.RecursiveReadOnly == v1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	mode := *vm.RecursiveReadOnly
	switch {
	case !vm.ReadOnly:
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not read-only", vm.Name)
	case vm.MountPropagation != nil && *vm.MountPropagation != v1.MountPropagationNone:
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not compatible with propagation %q", vm.Name, *vm.MountPropagation)
	case mode == v1.RecursiveReadOnlyIfPossible:
		return supported, nil
	case mode != v1.RecursiveReadOnlyEnabled:
		return false, fmt.Errorf("unknown recursive read-only mode %q", mode)
	case !supported:
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not supported by the runtime", vm.Name)
	}
	return true, nil
}

// devices are the block devices of a container.
func (b *Builder) devices(pod *v1.Pod, c *v1.Container) ([]*runtimeapi.Device, error) {
	var devices []*runtimeapi.Device
	for _, d := range c.VolumeDevices {
		if !path.IsAbs(d.DevicePath) {
			return nil, fmt.Errorf("error DevicePath `%s` must be an absolute path", d.DevicePath)
		}
		host, err := b.hostPath(pod, d.Name)
		if err != nil {
			return nil, fmt.Errorf("cannot find volume %q to pass into container %q", d.Name, c.Name)
		}
		permissions := "mrw"
		if v := volumeNamed(pod, d.Name); v != nil && readOnlyVolume(v) {
			permissions = "r"
		}
		devices = append(devices, &runtimeapi.Device{HostPath: host, ContainerPath: d.DevicePath, Permissions: permissions})
	}
	return devices, nil
}

// keptMessages is how many earlier starts' message files stay, for statuses that still quote them.
const keptMessages = 5

// messageMount makes the file that a container may leave its last message in. A container runs without one
// where it cannot be made.
func (b *Builder) messageMount(in Input) *runtimeapi.Mount {
	if in.Container.TerminationMessagePath == "" {
		return nil
	}
	dir := poddir.Container(b.cfg.Paths, in.Pod.UID, in.Container.Name)
	name := func(attempt uint32) string { return filepath.Join(dir, fmt.Sprintf("%08x", attempt)) }
	err := os.MkdirAll(dir, 0o750)
	if err == nil {
		err = writeMode(name(in.Attempt), nil, 0o666)
	}
	if err != nil {
		klog.ErrorS(err, "Termination message file cannot be made", "pod", klog.KObj(in.Pod), "container", in.Container.Name)
		return nil
	}
	if in.Attempt >= keptMessages {
		_ = os.Remove(name(in.Attempt - keptMessages))
	}
	return &runtimeapi.Mount{
		HostPath: name(in.Attempt), ContainerPath: absolute(in.Container.TerminationMessagePath), SelinuxRelabel: selinuxEnabled(),
	}
}
