package static

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// apiReference names what a Pod needs that only the API server has, which a static Pod must do without; "" for
// nothing. ConfigMaps and Secrets are localReferences.
func apiReference(pod *v1.Pod) (string, error) {
	switch spec := &pod.Spec; {
	case spec.ServiceAccountName != "":
		return "serviceaccounts", nil
	case len(spec.ResourceClaims) > 0:
		return "resourceclaims", nil
	}
	for i := range pod.Spec.Volumes {
		if what, err := volumeReference(&pod.Spec.Volumes[i]); what != "" || err != nil {
			return what, err
		}
	}
	return "", nil
}

func volumeReference(v *v1.Volume) (string, error) {
	switch {
	case v.CSI != nil:
		return "csidrivers (via CSI volumes)", nil
	case v.Glusterfs != nil:
		return "endpoints (via glusterFS volumes)", nil
	case v.PersistentVolumeClaim != nil:
		return "persistentvolumeclaims", nil
	case v.Ephemeral != nil:
		return "persistentvolumeclaims (via ephemeral volumes)", nil
	case v.AzureFile != nil:
		return "secrets", nil
	case v.Projected != nil:
		for i := range v.Projected.Sources {
			if what, err := projectionReference(v.Name, &v.Projected.Sources[i]); what != "" || err != nil {
				return what, err
			}
		}
	}
	return "", nil
}

func projectionReference(volume string, s *v1.VolumeProjection) (string, error) {
	switch {
	case s.ServiceAccountToken != nil:
		return "serviceaccounts (via projected volumes)", nil
	case s.ClusterTrustBundle != nil:
		return "clustertrustbundles", nil
	case s.PodCertificate != nil:
		return "podcertificates", nil
	case s.DownwardAPI != nil, s.ConfigMap != nil, s.Secret != nil:
		return "", nil
	}
	return "", fmt.Errorf("unknown source for projected volume %q", volume)
}

// localReference is a ConfigMap or a Secret that a Pod names.
type localReference struct {
	kind, name string
	optional   bool
}

// words name its kind as Kubernetes does when it refuses it.
func (r localReference) words() string { return strings.ToLower(r.kind) + "s" }

// localReferences are the ConfigMaps and Secrets that a Pod names, the Secrets first: so Kubernetes looks for them.
func localReferences(pod *v1.Pod) []localReference {
	l := &referenceList{}
	for _, s := range pod.Spec.ImagePullSecrets {
		l.add(kindSecret, s.Name, nil)
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			l.environment(list[i].Env, list[i].EnvFrom)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		l.environment(pod.Spec.EphemeralContainers[i].Env, pod.Spec.EphemeralContainers[i].EnvFrom)
	}
	for i := range pod.Spec.Volumes {
		l.volume(&pod.Spec.Volumes[i].VolumeSource)
	}
	slices.SortStableFunc(l.all, func(a, b localReference) int { return strings.Compare(b.kind, a.kind) })
	return l.all
}

type referenceList struct{ all []localReference }

func (l *referenceList) add(kind, name string, optional *bool) {
	l.all = append(l.all, localReference{kind, name, optional != nil && *optional})
}

func (l *referenceList) environment(env []v1.EnvVar, from []v1.EnvFromSource) {
	for _, f := range from {
		if r := f.SecretRef; r != nil {
			l.add(kindSecret, r.Name, r.Optional)
		}
		if r := f.ConfigMapRef; r != nil {
			l.add(kindConfigMap, r.Name, r.Optional)
		}
	}
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			l.add(kindSecret, r.Name, r.Optional)
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			l.add(kindConfigMap, r.Name, r.Optional)
		}
	}
}

func (l *referenceList) volume(v *v1.VolumeSource) {
	if s := v.ConfigMap; s != nil {
		l.add(kindConfigMap, s.Name, s.Optional)
	}
	if s := v.Secret; s != nil {
		l.add(kindSecret, s.SecretName, s.Optional)
	}
	if v.Projected == nil {
		return
	}
	for _, s := range v.Projected.Sources {
		if s := s.ConfigMap; s != nil {
			l.add(kindConfigMap, s.Name, s.Optional)
		}
		if s := s.Secret; s != nil {
			l.add(kindSecret, s.Name, s.Optional)
		}
	}
}
