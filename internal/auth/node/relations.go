package node

import (
	"sync"

	corev1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/apistore"
)

// thing is an object that a node may have to do with: "secrets", namespace, name.
type thing struct{ resource, namespace, name string }

// relations knows which things belong to the Pods of which node.
type relations struct {
	mu sync.RWMutex
	// pods has, for each Pod with a node, the node and what the Pod refers to.
	pods map[thing]podRelations
	// nodes has, for each thing, how many Pods of which node refer to it.
	nodes map[thing]map[string]int
}

type podRelations struct {
	node   string
	things []thing
}

func newRelations() *relations {
	return &relations{pods: map[thing]podRelations{}, nodes: map[thing]map[string]int{}}
}

// related reports whether a Pod of a node refers to a thing, or is it.
func (r *relations) related(node string, t thing) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.nodes[t][node] > 0
}

func (r *relations) sink() apistore.Sink[*corev1.Pod] {
	return apistore.Sink[*corev1.Pod]{
		Replace: func(all []*corev1.Pod) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.pods, r.nodes = map[thing]podRelations{}, map[thing]map[string]int{}
			for _, p := range all {
				r.set(p)
			}
		},
		Set: func(p *corev1.Pod) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.remove(podThing(p))
			r.set(p)
		},
		Remove: func(p *corev1.Pod) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.remove(podThing(p))
		},
	}
}

func podThing(p *corev1.Pod) thing { return thing{"pods", p.Namespace, p.Name} }

func (r *relations) set(p *corev1.Pod) {
	if p.Spec.NodeName == "" {
		return
	}
	pr := podRelations{node: p.Spec.NodeName, things: things(p)}
	r.pods[podThing(p)] = pr
	for _, t := range pr.things {
		if r.nodes[t] == nil {
			r.nodes[t] = map[string]int{}
		}
		r.nodes[t][pr.node]++
	}
}

func (r *relations) remove(pod thing) {
	pr, ok := r.pods[pod]
	if !ok {
		return
	}
	delete(r.pods, pod)
	for _, t := range pr.things {
		if r.nodes[t][pr.node]--; r.nodes[t][pr.node] == 0 {
			delete(r.nodes[t], pr.node)
		}
		if len(r.nodes[t]) == 0 {
			delete(r.nodes, t)
		}
	}
}

// things returns the Pod itself and all that its node must read to run it. Of a mirror Pod, which the
// node has made, it is the Pod alone: a node must not open anything to itself.
func things(p *corev1.Pod) []thing {
	all := []thing{podThing(p)}
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return all
	}
	seen := map[thing]bool{}
	add := func(resource, name string) {
		t := thing{resource, p.Namespace, name}
		if name != "" && !seen[t] {
			seen[t] = true
			all = append(all, t)
		}
	}
	add("serviceaccounts", p.Spec.ServiceAccountName)
	for _, s := range p.Spec.ImagePullSecrets {
		add("secrets", s.Name)
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			addEnvironment(list[i].Env, list[i].EnvFrom, add)
		}
	}
	for i := range p.Spec.EphemeralContainers {
		addEnvironment(p.Spec.EphemeralContainers[i].Env, p.Spec.EphemeralContainers[i].EnvFrom, add)
	}
	for i := range p.Spec.Volumes {
		addVolume(p, &p.Spec.Volumes[i], add)
	}
	return all
}

func addEnvironment(env []corev1.EnvVar, from []corev1.EnvFromSource, add func(resource, name string)) {
	for _, f := range from {
		if f.SecretRef != nil {
			add("secrets", f.SecretRef.Name)
		}
		if f.ConfigMapRef != nil {
			add("configmaps", f.ConfigMapRef.Name)
		}
	}
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if s := e.ValueFrom.SecretKeyRef; s != nil {
			add("secrets", s.Name)
		}
		if c := e.ValueFrom.ConfigMapKeyRef; c != nil {
			add("configmaps", c.Name)
		}
	}
}

func addVolume(p *corev1.Pod, v *corev1.Volume, add func(resource, name string)) {
	local := func(r *corev1.LocalObjectReference) {
		if r != nil {
			add("secrets", r.Name)
		}
	}
	switch {
	case v.Secret != nil:
		add("secrets", v.Secret.SecretName)
	case v.ConfigMap != nil:
		add("configmaps", v.ConfigMap.Name)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.Secret != nil {
				add("secrets", s.Secret.Name)
			}
			if s.ConfigMap != nil {
				add("configmaps", s.ConfigMap.Name)
			}
		}
	case v.PersistentVolumeClaim != nil:
		add("persistentvolumeclaims", v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		add("persistentvolumeclaims", p.Name+"-"+v.Name)
	case v.CSI != nil:
		local(v.CSI.NodePublishSecretRef)
	case v.ISCSI != nil:
		local(v.ISCSI.SecretRef)
	case v.AzureFile != nil:
		add("secrets", v.AzureFile.SecretName)
	case v.CephFS != nil:
		local(v.CephFS.SecretRef)
	case v.Cinder != nil:
		local(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		local(v.FlexVolume.SecretRef)
	case v.RBD != nil:
		local(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		local(v.ScaleIO.SecretRef)
	case v.StorageOS != nil && v.StorageOS.SecretRef != nil:
		add("secrets", v.StorageOS.SecretRef.Name)
	}
}
