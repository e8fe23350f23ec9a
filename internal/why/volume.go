package why

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// sources returns the ConfigMaps, Secrets and keys that are missing.
func sources(f *Facts) []Finding {
	var out []Finding
	for _, use := range Uses(f.Pod) {
		keys, ok := f.Sources[use.Source]
		if !ok || keys.Unknown || f.past(use) {
			continue
		}
		finding := Finding{About: AboutVolume, Object: use.Volume}
		where := "volume " + use.Volume
		if use.Container != "" {
			finding.About, finding.Object = AboutContainer, use.Container
			where = "the environment of container " + use.Container
		}
		verb := "configmap"
		if use.Kind == "Secret" {
			verb = "secret generic"
		}
		if keys.Missing {
			finding.Reason = use.Kind + "NotFound"
			finding.Message = fmt.Sprintf("%s needs %s %s, which does not exist", where, use.Kind, use.Name)
			finding.Fix = fmt.Sprintf("kubectl create %s %s -n %s --from-literal=KEY=VALUE, or set optional: true; the Pod then continues by itself", verb, use.Name, f.Pod.Namespace)
			if !slices.ContainsFunc(out, func(o Finding) bool { return o.Message == finding.Message }) {
				out = append(out, finding)
			}
			continue
		}
		for _, key := range use.Keys {
			if keys.has(key) {
				continue
			}
			finding.Reason = use.Kind + "KeyNotFound"
			finding.Message = fmt.Sprintf("%s needs key %q of %s %s, which has: %s", where, key, use.Kind, use.Name, keys.list())
			finding.Fix = "add the key, or correct it in the Pod; the Pod then continues by itself"
			out = append(out, finding)
		}
	}
	return out
}

// past reports whether the reference is already resolved: the volume is mounted, or the container has been
// started.
func (f *Facts) past(use Use) bool {
	for _, list := range [][]corev1.ContainerStatus{f.Pod.Status.InitContainerStatuses, f.Pod.Status.ContainerStatuses} {
		for _, c := range list {
			begun := c.State.Waiting == nil || c.LastTerminationState.Terminated != nil
			if begun && (use.Container == "" || use.Container == c.Name) {
				return true
			}
		}
	}
	return false
}

// claims returns the claims that are not bound, of a Pod that has a node.
func claims(f *Facts) []Finding {
	if started(f.Pod) {
		return nil
	}
	var out []Finding
	for _, name := range ClaimNames(f.Pod) {
		i := slices.IndexFunc(f.Claims, func(c corev1.PersistentVolumeClaim) bool { return c.Name == name })
		switch {
		case i < 0 && len(f.Unread) > 0:
		case i < 0:
			out = append(out, Finding{
				About: AboutVolume, Object: name, Reason: "ClaimNotFound", Message: fmt.Sprintf("the PersistentVolumeClaim %s does not exist", name),
				Fix: "create it, or correct its name in the Pod",
			})
		case f.Claims[i].Status.Phase != corev1.ClaimBound:
			out = append(out, Finding{
				About: AboutVolume, Object: name, Reason: "ClaimNotBound",
				Message: fmt.Sprintf("the PersistentVolumeClaim %s is %s, not Bound", name, f.Claims[i].Status.Phase),
				Fix:     "create a PersistentVolume that matches it, or have its StorageClass provision one",
			})
		}
	}
	return out
}

// started reports whether any container of the Pod has been started, which means that its volumes are mounted.
func started(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, c := range list {
			if c.State.Waiting == nil || c.LastTerminationState.Terminated != nil {
				return true
			}
		}
	}
	return false
}

var volumeOfEvent = regexp.MustCompile(`for volume "([^"]+)"`)

// mounts returns the events about volumes that could not be mounted, the latest of each volume.
func mounts(f *Facts) []Finding {
	if started(f.Pod) {
		return nil
	}
	var out []Finding
	for _, e := range f.events("FailedMount", "FailedAttachVolume", "FailedMapVolume") {
		volume := ""
		if m := volumeOfEvent.FindStringSubmatch(e.Message); m != nil {
			volume = m[1]
		}
		if slices.ContainsFunc(out, func(o Finding) bool { return o.Object == volume }) {
			continue
		}
		out = append(out, Finding{About: AboutVolume, Object: volume, Reason: e.Reason, Message: e.Message, Since: seen(&e), Fix: fixForMount(e.Message)})
	}
	return out
}

func fixForMount(message string) string {
	switch {
	case strings.Contains(message, "hostPath type check failed"):
		return "create that path with that type on the node, or correct hostPath.type"
	case strings.Contains(message, "configmap") || strings.Contains(message, "secret"):
		return "create the object or the key, or set optional: true; the mount is retried automatically"
	case strings.Contains(message, "permission denied"):
		return "the node is not permitted to read it: correct the permissions"
	}
	return "fix what the message reports; the mount is retried automatically"
}
