package static

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
)

// The kinds of objects that a folder may hold for its Pods.
const (
	kindConfigMap = "ConfigMap"
	kindSecret    = "Secret"
)

// annotationLocal names, on a mirror, what its static Pod takes from the folder: nothing of it is in the API.
const annotationLocal = "podium.dev/from-the-folder"

// objectName names an object of the folder.
type objectName struct{ kind, namespace, name string }

func (n objectName) String() string { return n.kind + " " + n.namespace + "/" + n.name }

func kindOf(object runtime.Object) string {
	switch object.(type) {
	case *v1.ConfigMap:
		return kindConfigMap
	case *v1.Secret:
		return kindSecret
	}
	return object.GetObjectKind().GroupVersionKind().Kind
}

func nameOfObject(object runtime.Object) objectName {
	m, err := meta.Accessor(object)
	if err != nil {
		return objectName{kind: kindOf(object)}
	}
	return objectName{kindOf(object), m.GetNamespace(), m.GetName()}
}

// prepareObject makes an object of a manifest one that Pods can use. The error says why it cannot be one.
func (c Config) prepareObject(object runtime.Object) error {
	m, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	if m.GetName() == "" {
		return fmt.Errorf("invalid %s: name is needed", kindOf(object))
	}
	if m.GetNamespace() == "" {
		m.SetNamespace(v1.NamespaceDefault)
	}
	if c.DefaultObject != nil {
		c.DefaultObject(object)
	}
	if c.CheckObject != nil {
		if errs := c.CheckObject(object); len(errs) > 0 {
			return fmt.Errorf("invalid %s %s/%s: %v", kindOf(object), m.GetNamespace(), m.GetName(), errs)
		}
	}
	return nil
}

// checkReferences says why a Pod cannot run: it names something that a static Pod must do without, or a
// ConfigMap or Secret that the folder does not have. In a folder without any, all is as in Kubernetes.
func checkReferences(pod *v1.Pod, have map[objectName]runtime.Object) error {
	what, err := apiReference(pod)
	if err != nil {
		return err
	}
	if what != "" {
		return fmt.Errorf("static pods may not reference %s", what)
	}
	for _, r := range localReferences(pod) {
		name := objectName{r.kind, pod.Namespace, r.name}
		switch {
		case len(have) == 0:
			return errors.New("static pods may not reference " + r.words())
		case have[name] == nil && !r.optional:
			return fmt.Errorf("static pods may not reference %s that are not in the folder of static pods: there is no %v in it", r.words(), name)
		}
	}
	return nil
}

// withoutReferences takes out of a mirror what names objects of the folder: the API has no such objects, or
// others of that name. Which ones they are, the annotation tells.
func withoutReferences(mirror *v1.Pod) {
	var names []string
	for _, r := range localReferences(mirror) {
		if name := r.kind + "/" + r.name; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	mirror.Annotations[annotationLocal] = strings.Join(names, ",")
	spec := &mirror.Spec
	spec.ImagePullSecrets = nil
	strip := func(c *v1.EphemeralContainerCommon) {
		c.EnvFrom = nil // of nothing but objects
		c.Env = slices.DeleteFunc(c.Env, func(e v1.EnvVar) bool {
			return e.ValueFrom != nil && (e.ValueFrom.ConfigMapKeyRef != nil || e.ValueFrom.SecretKeyRef != nil)
		})
	}
	for _, list := range [][]v1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			strip((*v1.EphemeralContainerCommon)(&list[i]))
		}
	}
	for i := range spec.EphemeralContainers {
		strip(&spec.EphemeralContainers[i].EphemeralContainerCommon)
	}
	for i := range spec.Volumes {
		withoutSources(&spec.Volumes[i].VolumeSource)
	}
}

// withoutSources leaves a volume what it is, a folder that is projected, without saying of what.
func withoutSources(v *v1.VolumeSource) {
	switch {
	case v.ConfigMap != nil:
		*v = v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{DefaultMode: v.ConfigMap.DefaultMode}}
	case v.Secret != nil:
		*v = v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{DefaultMode: v.Secret.DefaultMode}}
	case v.Projected != nil:
		v.Projected.Sources = slices.DeleteFunc(v.Projected.Sources, func(s v1.VolumeProjection) bool {
			return s.ConfigMap != nil || s.Secret != nil
		})
	}
}
