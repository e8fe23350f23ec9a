package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// volumeMounts judges where a container sees its volumes. Faults of subpaths, propagation and recursion are
// told for the list, as in Kubernetes.
func (c *checker) volumeMounts(ctr *corev1.Container, at *field.Path) {
	devices, devicePaths := deviceNames(ctr.VolumeDevices)
	places := sets.New[string]()
	for i := range ctr.VolumeMounts {
		m, path := &ctr.VolumeMounts[i], at.Index(i)
		c.needs(m.Name, path.Child("name"))
		if c.volumes[m.Name] == nil {
			c.NotFound(path.Child("name"), m.Name)
		}
		c.needs(m.MountPath, path.Child("mountPath"))
		if places.Has(m.MountPath) {
			c.Invalid(path.Child("mountPath"), m.MountPath, "must be unique")
		}
		places.Insert(m.MountPath)
		if devices.Has(m.Name) {
			c.Invalid(path.Child("name"), m.Name, "must not already exist in volumeDevices")
		}
		if devicePaths.Has(m.MountPath) {
			c.Invalid(path.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices")
		}
		if m.SubPath != "" {
			relativePath(&c.List, m.SubPath, at.Child("subPath"))
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				c.Invalid(path.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive")
			}
			relativePath(&c.List, m.SubPathExpr, at.Child("subPathExpr"))
		}
		c.mountPropagation(m.MountPropagation, ctr, at.Child("mountPropagation"))
		c.recursiveReadOnly(m, at.Child("recursiveReadOnly"))
	}
}

func (c *checker) mountPropagation(mode *corev1.MountPropagationMode, ctr *corev1.Container, at *field.Path) {
	if mode == nil {
		return
	}
	fielderrors.OneOf(&c.List, at, *mode, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
	sc := ctr.SecurityContext
	privileged := sc != nil && sc.Privileged != nil && *sc.Privileged
	if *mode == corev1.MountPropagationBidirectional && !privileged {
		c.Forbidden(at, "Bidirectional mount propagation is available only to privileged containers")
	}
}

func (c *checker) recursiveReadOnly(m *corev1.VolumeMount, at *field.Path) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return
	}
	if !fielderrors.OneOf(&c.List, at, *m.RecursiveReadOnly, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible) {
		return
	}
	if !m.ReadOnly {
		c.Forbidden(at, "may only be specified when readOnly is true")
	}
	if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
		c.Forbidden(at, "may only be specified when mountPropagation is None or not specified")
	}
}

// volumeDevices judges the volumes that a container sees as block devices.
func (c *checker) volumeDevices(ctr *corev1.Container, at *field.Path) {
	mounts, mountPaths := mountNames(ctr.VolumeMounts)
	names, places := sets.New[string](), sets.New[string]()
	for i := range ctr.VolumeDevices {
		d, path := &ctr.VolumeDevices[i], at.Index(i)
		c.needs(d.Name, path.Child("name"))
		if names.Has(d.Name) {
			c.Invalid(path.Child("name"), d.Name, "must be unique")
		}
		if v := c.volumes[d.Name]; v == nil {
			c.NotFound(path.Child("name"), d.Name)
		} else if v.PersistentVolumeClaim == nil && v.Ephemeral == nil {
			c.Invalid(path.Child("name"), d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode")
		}
		c.needs(d.DevicePath, path.Child("devicePath"))
		if places.Has(d.DevicePath) {
			c.Invalid(path.Child("devicePath"), d.DevicePath, "must be unique")
		}
		var backsteps fielderrors.List
		if noBacksteps(&backsteps, d.DevicePath, nil); len(backsteps) > 0 {
			c.Invalid(path.Child("devicePath"), d.DevicePath, "can not contain backsteps ('..')")
		} else {
			places.Insert(d.DevicePath)
		}
		if mounts.Has(d.Name) {
			c.Invalid(path.Child("name"), d.Name, "must not already exist in volumeMounts")
		}
		if mountPaths.Has(d.DevicePath) {
			c.Invalid(path.Child("devicePath"), d.DevicePath, "must not already exist as a path in volumeMounts")
		}
		if d.Name != "" {
			names.Insert(d.Name)
		}
	}
}

// mountNames returns the names and places of mounts. Of several mounts of one volume only the last counts.
func mountNames(mounts []corev1.VolumeMount) (names, places sets.Set[string]) {
	last := map[string]string{}
	for i := range mounts {
		last[mounts[i].Name] = mounts[i].MountPath
	}
	return keysAndValues(last)
}

// deviceNames is mountNames for devices.
func deviceNames(devices []corev1.VolumeDevice) (names, places sets.Set[string]) {
	last := map[string]string{}
	for i := range devices {
		last[devices[i].Name] = devices[i].DevicePath
	}
	return keysAndValues(last)
}

func keysAndValues(m map[string]string) (keys, values sets.Set[string]) {
	keys, values = sets.New[string](), sets.New[string]()
	for k, v := range m {
		keys.Insert(k)
		values.Insert(v)
	}
	return keys, values
}
