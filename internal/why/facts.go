package why

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"podium.dev/podium/internal/scheduler"
)

// Facts are the objects that an explanation is derived from.
type Facts struct {
	// Now is the present time.
	Now time.Time
	// Namespace and Name are those of the object that was asked about.
	Namespace, Name string
	// Pod is the Pod, or nil if there is none of that name.
	Pod *corev1.Pod
	// Events are the events about the Pod, or about its owner and the objects that the owner made.
	Events []corev1.Event
	// Node is the Pod's node, or nil if it has none or the node does not exist.
	Node *corev1.Node
	// Cluster is what scheduling depends on, for a Pod without a node.
	Cluster *scheduler.Cluster
	// Sources are the ConfigMaps and Secrets that the Pod refers to, with their keys.
	Sources map[Source]Keys
	// Claims are the claims of the Pod's volumes.
	Claims []corev1.PersistentVolumeClaim
	// Owner is an object that makes Pods, if it was asked about instead of a Pod. Pods are the Pods that it
	// made, each with its own facts.
	Owner *unstructured.Unstructured
	Pods  []*Facts
	// Service is a Service that was asked about. Pods are those that it selects, Endpoints what its user wrote if it has
	// no selector.
	Service   *corev1.Service
	Endpoints *corev1.Endpoints
	// FurtherPods is the number of live Pods of the owner or Service that are not in Pods.
	FurtherPods int
	// Quotas and Ranges are those of the namespace, for an owner whose Pods are rejected.
	Quotas []corev1.ResourceQuota
	Ranges []corev1.LimitRange
	// Unread lists what could not be read, and why.
	Unread []string
}

// Source is a ConfigMap or Secret of the Pod's namespace.
type Source struct {
	Kind string // ConfigMap or Secret
	Name string
}

// Keys are the keys of a source. They hold no values.
type Keys struct {
	// Missing is set if the object does not exist, Unknown if it could not be read.
	Missing, Unknown bool
	Names            []string
}

// Use is a reference from a Pod to a source.
type Use struct {
	Source
	// Volume or Container is the place of the reference.
	Volume, Container string
	// Keys are those that must exist. None means that only the source must exist.
	Keys []string
}

// Uses returns the ConfigMaps and Secrets that the Pod requires.
func Uses(pod *corev1.Pod) []Use {
	var out []Use
	add := func(u Use, optional *bool) {
		if u.Name != "" && (optional == nil || !*optional) {
			out = append(out, u)
		}
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !mounted(pod, v.Name) {
			continue // the node ignores it
		}
		if v.ConfigMap != nil {
			add(Use{Source{"ConfigMap", v.ConfigMap.Name}, v.Name, "", itemKeys(v.ConfigMap.Items)}, v.ConfigMap.Optional)
		}
		if v.Secret != nil {
			add(Use{Source{"Secret", v.Secret.SecretName}, v.Name, "", itemKeys(v.Secret.Items)}, v.Secret.Optional)
		}
		if v.Projected == nil {
			continue
		}
		for _, p := range v.Projected.Sources {
			if p.ConfigMap != nil {
				add(Use{Source{"ConfigMap", p.ConfigMap.Name}, v.Name, "", itemKeys(p.ConfigMap.Items)}, p.ConfigMap.Optional)
			}
			if p.Secret != nil {
				add(Use{Source{"Secret", p.Secret.Name}, v.Name, "", itemKeys(p.Secret.Items)}, p.Secret.Optional)
			}
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			environment(&list[i], add)
		}
	}
	return out
}

// mounted reports whether any container mounts the volume.
func mounted(pod *corev1.Pod, volume string) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if slices.ContainsFunc(list[i].VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume }) {
				return true
			}
		}
	}
	return false
}

func environment(c *corev1.Container, add func(Use, *bool)) {
	for _, from := range c.EnvFrom {
		if r := from.ConfigMapRef; r != nil {
			add(Use{Source{"ConfigMap", r.Name}, "", c.Name, nil}, r.Optional)
		}
		if r := from.SecretRef; r != nil {
			add(Use{Source{"Secret", r.Name}, "", c.Name, nil}, r.Optional)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add(Use{Source{"ConfigMap", r.Name}, "", c.Name, []string{r.Key}}, r.Optional)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add(Use{Source{"Secret", r.Name}, "", c.Name, []string{r.Key}}, r.Optional)
		}
	}
}

func itemKeys(items []corev1.KeyToPath) []string {
	var out []string
	for _, i := range items {
		out = append(out, i.Key)
	}
	return out
}

// ClaimNames returns the names of the claims that the Pod's volumes use.
func ClaimNames(pod *corev1.Pod) []string {
	var out []string
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			out = append(out, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			out = append(out, pod.Name+"-"+v.Name)
		}
	}
	return out
}

// has reports whether the source has the key, as far as is known.
func (k Keys) has(key string) bool { return k.Unknown || slices.Contains(k.Names, key) }

// list formats the keys, shortened if there are many.
func (k Keys) list() string {
	const most = 8
	switch {
	case len(k.Names) == 0:
		return "none"
	case len(k.Names) > most:
		return strings.Join(k.Names[:most], ", ") + ", …"
	}
	return strings.Join(k.Names, ", ")
}
