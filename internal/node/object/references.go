package object

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// apiService is the Service that every Pod is told of.
var apiService = key{kind: KindService, namespace: v1.NamespaceDefault, name: "kubernetes"}

// references are what the spec of a Pod names.
func references(pod *v1.Pod) map[key]struct{} {
	keys := map[key]struct{}{apiService: {}}
	add := func(kind, name string) {
		if name != "" {
			keys[keyFor(pod, kind, name)] = struct{}{}
		}
	}
	if links := pod.Spec.EnableServiceLinks; links != nil && *links {
		keys[key{kind: KindService, namespace: pod.Namespace}] = struct{}{}
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		add(KindSecret, s.Name)
	}
	for i := range pod.Spec.Volumes {
		volumeReferences(&pod.Spec.Volumes[i].VolumeSource, add)
		if showsTrust(&pod.Spec.Volumes[i].VolumeSource) {
			keys[trustBundles] = struct{}{}
		}
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			environmentReferences(list[i].Env, list[i].EnvFrom, add)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		c := &pod.Spec.EphemeralContainers[i].EphemeralContainerCommon
		environmentReferences(c.Env, c.EnvFrom, add)
	}
	return keys
}

func volumeReferences(v *v1.VolumeSource, add func(kind, name string)) {
	if v.ConfigMap != nil {
		add(KindConfigMap, v.ConfigMap.Name)
	}
	if v.Secret != nil {
		add(KindSecret, v.Secret.SecretName)
	}
	if v.Projected == nil {
		return
	}
	for _, s := range v.Projected.Sources {
		if s.ConfigMap != nil {
			add(KindConfigMap, s.ConfigMap.Name)
		}
		if s.Secret != nil {
			add(KindSecret, s.Secret.Name)
		}
	}
}

// showsTrust reports whether a volume shows certificates of ClusterTrustBundles.
func showsTrust(v *v1.VolumeSource) bool {
	return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s v1.VolumeProjection) bool { return s.ClusterTrustBundle != nil })
}

func environmentReferences(env []v1.EnvVar, from []v1.EnvFromSource, add func(kind, name string)) {
	for _, f := range from {
		if f.ConfigMapRef != nil {
			add(KindConfigMap, f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			add(KindSecret, f.SecretRef.Name)
		}
	}
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if e.ValueFrom.ConfigMapKeyRef != nil {
			add(KindConfigMap, e.ValueFrom.ConfigMapKeyRef.Name)
		}
		if e.ValueFrom.SecretKeyRef != nil {
			add(KindSecret, e.ValueFrom.SecretKeyRef.Name)
		}
	}
}
