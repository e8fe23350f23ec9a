package podspec

import corev1 "k8s.io/api/core/v1"

// Prune takes out of a Pod what v1.37 does not have by default: the fields of features whose gates are off.
// Clients that send them are not refused; the fields are simply not kept. One is kept where it is valid with the gate
// on, which takes a Pod that names its system, lifecycle.stopSignal (ContainerStopSignals): a program that is ended by
// another signal than its manifest names does not end as it is meant to.
func Prune(pod *corev1.Pod) {
	pruneSpec(&pod.Spec)
	PruneStatus(pod)
}

// PruneStatus is Prune for an update of the status, which leaves the spec as it is.
func PruneStatus(pod *corev1.Pod) {
	pruneStatus(&pod.Status)
	DropInitAnnotations(pod.Annotations)
}

// PruneTemplate is Prune for the template of a Pod.
func PruneTemplate(template *corev1.PodTemplateSpec) {
	if template == nil {
		return
	}
	pruneSpec(&template.Spec)
	DropInitAnnotations(template.Annotations)
}

func pruneSpec(s *corev1.PodSpec) {
	s.SchedulingGroup = nil    // GenericWorkload
	s.EvictionResponders = nil // EvictionRequestAPI
	for i := range s.Volumes {
		pruneVolume(&s.Volumes[i].VolumeSource)
	}
	for c := range Containers(s) {
		pruneContainer(c)
		if s.OS == nil {
			pruneStopSignal(c)
		}
	}
}

func pruneStopSignal(c *corev1.Container) {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return
	}
	c.Lifecycle.StopSignal = nil
	if *c.Lifecycle == (corev1.Lifecycle{}) {
		c.Lifecycle = nil
	}
}

func pruneContainer(c *corev1.Container) {
	for i := range c.VolumeMounts {
		c.VolumeMounts[i].BindMountOptions = nil // VolumeBindMountOptions
	}
	for _, p := range probesOf(c) {
		pruneHTTPGet(p.HTTPGet)
		if p.GRPC != nil {
			p.GRPC.Mode = nil // GRPCContainerProbeTLS
		}
	}
	if c.Lifecycle == nil {
		return
	}
	for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
		if h != nil {
			pruneHTTPGet(h.HTTPGet)
		}
	}
}

func pruneHTTPGet(get *corev1.HTTPGetAction) {
	if get != nil {
		get.Protocol = nil // H2CContainerProbe
	}
}

// pruneVolume takes out the owners of files (AtomicWriteVolumeUserFields) and the mode of an emptyDir
// (EmptyDirVolumeMode). A volume has one type; of one that claims to have several only the first is looked at,
// and it is refused later.
func pruneVolume(v *corev1.VolumeSource) {
	if v.EmptyDir != nil {
		v.EmptyDir.Mode = nil
	}
	switch {
	case v.Secret != nil:
		v.Secret.DefaultUser = nil
		pruneKeys(v.Secret.Items)
	case v.ConfigMap != nil:
		v.ConfigMap.DefaultUser = nil
		pruneKeys(v.ConfigMap.Items)
	case v.DownwardAPI != nil:
		v.DownwardAPI.DefaultUser = nil
		pruneFiles(v.DownwardAPI.Items)
	case v.Projected != nil:
		v.Projected.DefaultUser = nil
		for i := range v.Projected.Sources {
			pruneProjection(&v.Projected.Sources[i])
		}
	}
}

func pruneProjection(p *corev1.VolumeProjection) {
	switch {
	case p.Secret != nil:
		pruneKeys(p.Secret.Items)
	case p.DownwardAPI != nil:
		pruneFiles(p.DownwardAPI.Items)
	case p.ConfigMap != nil:
		pruneKeys(p.ConfigMap.Items)
	case p.ServiceAccountToken != nil:
		p.ServiceAccountToken.User = nil
	case p.ClusterTrustBundle != nil:
		p.ClusterTrustBundle.User = nil
	case p.PodCertificate != nil:
		p.PodCertificate.User = nil
	}
}

func pruneKeys(items []corev1.KeyToPath) {
	for i := range items {
		items[i].User = nil
	}
}

func pruneFiles(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		items[i].User = nil
	}
}

func pruneStatus(s *corev1.PodStatus) {
	s.NodeAllocatableResourceClaimStatuses = nil // DRANodeAllocatableResources
	s.VolumeHealth = nil                         // CSIVolumeHealth
	for _, list := range [][]corev1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			for j := range list[i].VolumeMounts {
				list[i].VolumeMounts[j].VolumeStatus = nil // ImageVolumeWithDigest
			}
		}
	}
}

// DropInitAnnotations takes out the annotations in which very old clients kept init containers.
func DropInitAnnotations(annotations map[string]string) {
	for _, key := range []string{
		"pod.beta.kubernetes.io/init-containers", "pod.alpha.kubernetes.io/init-containers",
		"pod.beta.kubernetes.io/init-container-statuses", "pod.alpha.kubernetes.io/init-container-statuses",
	} {
		delete(annotations, key)
	}
}
