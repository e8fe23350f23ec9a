package node

import (
	"sync"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/apistore"
)

// volumes knows which claim each PersistentVolume is bound to, and which Secrets a node needs to mount it.
// A node may read a volume, and its Secrets, when one of its Pods uses the claim (the Node authorizer's
// graph of Kubernetes: secret → volume → claim → Pod → node).
type volumes struct {
	mu sync.RWMutex
	// all are the bound volumes by name.
	all map[string]boundVolume
	// secrets has, for each Secret, the names of the volumes that need it.
	secrets map[thing]map[string]bool
}

type boundVolume struct {
	claim   thing
	secrets []thing
}

func newVolumes() *volumes {
	return &volumes{all: map[string]boundVolume{}, secrets: map[thing]map[string]bool{}}
}

// claims returns the claims through which a thing belongs to a Pod: of a PersistentVolume the one that it is
// bound to, of a Secret those of the volumes that need it.
func (v *volumes) claims(t thing) []thing {
	v.mu.RLock()
	defer v.mu.RUnlock()
	switch t.resource {
	case "persistentvolumes":
		if b, ok := v.all[t.name]; ok && t.namespace == "" {
			return []thing{b.claim}
		}
	case "secrets":
		var claims []thing
		for name := range v.secrets[t] {
			claims = append(claims, v.all[name].claim)
		}
		return claims
	}
	return nil
}

func (v *volumes) sink() apistore.Sink[*corev1.PersistentVolume] {
	return apistore.Sink[*corev1.PersistentVolume]{
		Replace: func(all []*corev1.PersistentVolume) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.all, v.secrets = map[string]boundVolume{}, map[thing]map[string]bool{}
			for _, pv := range all {
				v.setLocked(pv)
			}
		},
		Set: func(pv *corev1.PersistentVolume) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.removeLocked(pv.Name)
			v.setLocked(pv)
		},
		Remove: func(pv *corev1.PersistentVolume) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.removeLocked(pv.Name)
		},
	}
}

func (v *volumes) setLocked(pv *corev1.PersistentVolume) {
	b, ok := bindingOf(pv)
	if !ok {
		return
	}
	v.all[pv.Name] = b
	for _, s := range b.secrets {
		if v.secrets[s] == nil {
			v.secrets[s] = map[string]bool{}
		}
		v.secrets[s][pv.Name] = true
	}
}

func (v *volumes) removeLocked(name string) {
	for _, s := range v.all[name].secrets {
		if delete(v.secrets[s], name); len(v.secrets[s]) == 0 {
			delete(v.secrets, s)
		}
	}
	delete(v.all, name)
}

// bindingOf returns what a volume is bound to; false for a volume that is not bound.
func bindingOf(pv *corev1.PersistentVolume) (boundVolume, bool) {
	ref := pv.Spec.ClaimRef
	if ref == nil || ref.Name == "" || ref.Namespace == "" {
		return boundVolume{}, false
	}
	b := boundVolume{claim: thing{"persistentvolumeclaims", ref.Namespace, ref.Name}}
	add := func(namespace, name string) {
		if namespace == "" {
			namespace = ref.Namespace
		}
		if name != "" {
			b.secrets = append(b.secrets, thing{"secrets", namespace, name})
		}
	}
	addRef := func(r *corev1.SecretReference) {
		if r != nil {
			add(r.Namespace, r.Name)
		}
	}
	switch s := &pv.Spec.PersistentVolumeSource; {
	case s.AzureFile != nil:
		namespace := ""
		if s.AzureFile.SecretNamespace != nil {
			namespace = *s.AzureFile.SecretNamespace
		}
		add(namespace, s.AzureFile.SecretName)
	case s.CephFS != nil:
		addRef(s.CephFS.SecretRef)
	case s.Cinder != nil:
		addRef(s.Cinder.SecretRef)
	case s.FlexVolume != nil:
		addRef(s.FlexVolume.SecretRef)
	case s.ISCSI != nil:
		addRef(s.ISCSI.SecretRef)
	case s.RBD != nil:
		addRef(s.RBD.SecretRef)
	case s.ScaleIO != nil:
		addRef(s.ScaleIO.SecretRef)
	case s.StorageOS != nil && s.StorageOS.SecretRef != nil:
		add(s.StorageOS.SecretRef.Namespace, s.StorageOS.SecretRef.Name)
	case s.CSI != nil:
		// The Secrets of the controller's calls are not the node's to read.
		addRef(s.CSI.NodeStageSecretRef)
		addRef(s.CSI.NodePublishSecretRef)
		addRef(s.CSI.NodeExpandSecretRef)
	}
	return b, true
}
