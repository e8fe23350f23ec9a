package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// The fields of a Pod that its containers may see: in a file of a volume and in a variable.
var (
	volumeFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
	envFields    = []string{"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}
)

// podFields are all fields of a Pod that have a name in the downward API, used or not.
var podFields = append([]string{"metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "status.phase"}, envFields...)

// containerFields are the resources of a container that it may see; huge pages of any size come on top.
var containerFields = []string{"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"}

func (c *checker) env(vars []corev1.EnvVar, at *field.Path) {
	for i := range vars {
		v, path := &vars[i], at.Index(i)
		if v.Name == "" {
			c.Required(path.Child("name"), "")
		} else {
			c.InvalidEach(path.Child("name"), v.Name, validation.IsRelaxedEnvVarName(v.Name))
		}
		if v.ValueFrom != nil {
			c.envSource(v, path.Child("valueFrom"))
		}
	}
}

func (c *checker) envSource(v *corev1.EnvVar, at *field.Path) {
	s, sources := v.ValueFrom, 0
	if s.FieldRef != nil {
		sources++
		c.fieldRef(s.FieldRef, envFields, at.Child("fieldRef"))
	}
	if s.ResourceFieldRef != nil {
		sources++
		c.resourceFieldRef(s.ResourceFieldRef, at.Child("resourceFieldRef"), false)
	}
	if s.ConfigMapKeyRef != nil {
		sources++
		c.keyRef(s.ConfigMapKeyRef.Name, s.ConfigMapKeyRef.Key, at.Child("configMapKeyRef"))
	}
	if s.SecretKeyRef != nil {
		sources++
		c.keyRef(s.SecretKeyRef.Name, s.SecretKeyRef.Key, at.Child("secretKeyRef"))
	}
	if s.FileKeyRef != nil {
		sources++
		c.fileRef(s.FileKeyRef, at.Child("fileKeyRef"))
	}
	switch {
	case sources == 0:
		c.Invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`")
	case v.Value != "":
		c.Invalid(at, "", "may not be specified when `value` is not empty")
	case sources > 1:
		c.Invalid(at, "", "may not have more than one field specified at a time")
	}
}

// fieldRef judges a reference to a field of the Pod, which must be among those allowed here, or to one of its
// labels or annotations.
func (c *checker) fieldRef(ref *corev1.ObjectFieldSelector, allowed []string, at *field.Path) {
	if ref.APIVersion == "" {
		c.Required(at.Child("apiVersion"), "")
		return
	}
	if ref.FieldPath == "" {
		c.Required(at.Child("fieldPath"), "")
		return
	}
	name, key, subscripted := splitSubscript(ref.FieldPath)
	if problem := fieldProblem(ref.APIVersion, name, ref.FieldPath, subscripted); problem != "" {
		c.Invalid(at.Child("fieldPath"), ref.FieldPath, "error converting fieldPath: "+problem)
		return
	}
	if name == "spec.host" { // the name that nodeName had before v1
		name = "spec.nodeName"
	}
	switch {
	case subscripted && name == "metadata.annotations":
		c.qualifiedName(strings.ToLower(key), at)
	case subscripted:
		c.qualifiedName(key, at)
	default:
		fielderrors.OneOf(&c.List, at.Child("fieldPath"), name, allowed...)
	}
}

// splitSubscript takes metadata.labels['KEY'] apart.
func splitSubscript(path string) (name, key string, ok bool) {
	inner, closed := strings.CutSuffix(path, "']")
	name, key, open := strings.Cut(inner, "['")
	if !closed || !open || name == "" {
		return path, "", false
	}
	return name, key, true
}

// fieldProblem says why a field has no name in the downward API; empty when it has.
func fieldProblem(version, name, path string, subscripted bool) string {
	switch {
	case version != "v1":
		return "unsupported pod version: " + version
	case subscripted && name != "metadata.annotations" && name != "metadata.labels":
		return "field label does not support subscript: " + path
	case !subscripted && name != "spec.host" && !slices.Contains(podFields, name):
		return "field label not supported: " + path
	}
	return ""
}

// resourceFieldRef judges a reference to a container's resource. In a volume the container must be named.
func (c *checker) resourceFieldRef(ref *corev1.ResourceFieldSelector, at *field.Path, inVolume bool) {
	hugePages := strings.HasPrefix(ref.Resource, "requests.hugepages-") || strings.HasPrefix(ref.Resource, "limits.hugepages-")
	switch {
	case inVolume && ref.ContainerName == "":
		c.Required(at.Child("containerName"), "")
	case ref.Resource == "":
		c.Required(at.Child("resource"), "")
	case !hugePages:
		fielderrors.OneOf(&c.List, at.Child("resource"), ref.Resource, containerFields...)
	}
	if ref.Divisor.Sign() == 0 {
		return
	}
	_, kind, _ := strings.Cut(ref.Resource, ".")
	if hugePages {
		kind = "hugepages"
	}
	c.divisor(ref.Resource, kind, ref.Divisor.String(), at.Child("divisor"))
}

// byteDivisors are the units in which amounts of bytes may be seen.
const byteDivisors = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"

func (c *checker) divisor(resource, kind, divisor string, at *field.Path) {
	name, known := map[string]string{"memory": "memory", "ephemeral-storage": "local ephemeral storage", "hugepages": "hugepages"}[kind]
	switch {
	case resource == "limits.cpu" || resource == "requests.cpu":
		if divisor != "1m" && divisor != "1" {
			c.Invalid(at, resource, "only divisor's values 1m and 1 are supported with the cpu resource")
		}
	case known && (kind == "hugepages" || slices.Contains(containerFields, resource)):
		if !slices.Contains(strings.Split(byteDivisors, ", "), divisor) {
			c.Invalid(at, resource, fmt.Sprintf("only divisor's values %s are supported with the %s resource", byteDivisors, name))
		}
	}
}

func (c *checker) keyRef(name, key string, at *field.Path) {
	c.InvalidEach(at.Child("name"), name, apivalidation.NameIsDNSSubdomain(name, false))
	if key == "" {
		c.Required(at.Child("key"), "")
	} else {
		c.InvalidEach(at.Child("key"), key, validation.IsConfigMapKey(key))
	}
}

func (c *checker) fileRef(ref *corev1.FileKeySelector, at *field.Path) {
	if ref.Key == "" {
		c.Required(at.Child("key"), "")
	} else {
		c.InvalidEach(at.Child("key"), ref.Key, validation.IsRelaxedEnvVarName(ref.Key))
	}
	if ref.VolumeName == "" {
		c.Required(at.Child("volumeName"), "")
	} else {
		c.dnsLabel(ref.VolumeName, at.Child("volumeName"))
	}
	if ref.Path == "" {
		c.Required(at.Child("path"), "")
	} else {
		noBacksteps(&c.List, ref.Path, at.Child("path"))
	}
}

// envFiles wants the volumes from which variables are read to be emptyDirs of this Pod.
func (c *checker) envFiles(path *field.Path) {
	volumes := map[string]*corev1.VolumeSource{}
	for i := range c.spec.Volumes {
		volumes[c.spec.Volumes[i].Name] = &c.spec.Volumes[i].VolumeSource
	}
	for at, ctr := range containersAt(c.spec, path) {
		for i, v := range ctr.Env {
			if v.ValueFrom == nil || v.ValueFrom.FileKeyRef == nil {
				continue
			}
			name := v.ValueFrom.FileKeyRef.VolumeName
			here := at.Child("env").Index(i).Child("valueFrom", "fileKeyRef", "volumeName")
			if source := volumes[name]; source == nil {
				c.NotFound(here, name)
			} else if source.EmptyDir == nil {
				c.Invalid(here, name, "referenced volume must be of type emptyDir")
			}
		}
	}
}

// envFrom judges whole config maps and secrets taken as variables. What is wrong with the number of sources is
// told for the list, as in Kubernetes.
func (c *checker) envFrom(sources []corev1.EnvFromSource, at *field.Path) {
	for i := range sources {
		s, path, set := &sources[i], at.Index(i), 0
		if s.Prefix != "" {
			c.InvalidEach(path.Child("prefix"), s.Prefix, validation.IsRelaxedEnvVarName(s.Prefix))
		}
		if s.ConfigMapRef != nil {
			set++
			c.sourceName(s.ConfigMapRef.Name, path.Child("configMapRef", "name"))
		}
		if s.SecretRef != nil {
			set++
			c.sourceName(s.SecretRef.Name, path.Child("secretRef", "name"))
		}
		switch {
		case set == 0:
			c.Invalid(at, "", "must specify one of: `configMapRef` or `secretRef`")
		case set > 1:
			c.Invalid(at, "", "may not have more than one field specified at a time")
		}
	}
}

func (c *checker) sourceName(name string, at *field.Path) {
	if name == "" {
		c.Required(at, "")
	} else {
		c.InvalidEach(at, name, apivalidation.NameIsDNSSubdomain(name, true))
	}
}
