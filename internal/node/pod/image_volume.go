package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// imageVolumes are the volumes of the Pod that a container mounts and that are images.
func imageVolumes(p *v1.Pod, c *v1.Container) []*v1.Volume {
	var out []*v1.Volume
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.Image != nil && slices.ContainsFunc(c.VolumeMounts, func(m v1.VolumeMount) bool { return m.Name == v.Name }) {
			out = append(out, v)
		}
	}
	return out
}

// Mounting are the containers of the Pod that mount a volume.
func Mounting(p *v1.Pod, volume string) []*v1.Container {
	var out []*v1.Container
	add := func(c *v1.Container) {
		if slices.ContainsFunc(c.VolumeMounts, func(m v1.VolumeMount) bool { return m.Name == volume }) {
			out = append(out, c)
		}
	}
	for i := range p.Spec.InitContainers {
		add(&p.Spec.InitContainers[i])
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	for i := range p.Spec.EphemeralContainers {
		add((*v1.Container)(&p.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	return out
}

// failedVolume is the pull of the first image volume of a container that failed, nil for none.
func (w *Work) failedVolume(p *v1.Pod, c *v1.Container) *Pull {
	for _, v := range imageVolumes(p, c) {
		if pull := w.VolumePulls[v.Name]; pull != nil && pull.Reason != "" && pull.Image == v.Image.Reference {
			return pull
		}
	}
	return nil
}

// imageVolumes plans for the images that a container mounts, and returns them by volume when all are there.
func (pl *planner) imageVolumes(c *v1.Container) (refs map[string]string, ok bool) {
	refs, ok = map[string]string{}, true
	for _, v := range imageVolumes(pl.pod, c) {
		pull := pl.o.Work.VolumePulls[v.Name]
		if pull != nil && pull.Done && pull.Image == v.Image.Reference && !pull.Used[c.Name] {
			refs[v.Name] = pull.Ref
			continue
		}
		ok = false
		if pull == nil || pull.Done || pull.Image != v.Image.Reference && !pull.Busy || pl.due(&pull.Step) {
			pl.pullVolume(v)
		}
	}
	return refs, ok
}

// pullVolume asks for a volume's image, once for all containers that mount it.
func (pl *planner) pullVolume(v *v1.Volume) {
	asked := slices.ContainsFunc(pl.actions, func(a Action) bool {
		pull, is := a.(PullVolume)
		return is && pull.Volume.Name == v.Name
	})
	if !asked {
		pl.do(PullVolume{Volume: v})
	}
}
