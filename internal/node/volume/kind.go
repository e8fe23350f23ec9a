package volume

import (
	"reflect"

	v1 "k8s.io/api/core/v1"
)

// The plugins' names, as folders of volumes carry them.
const (
	pluginEmptyDir  = "kubernetes.io/empty-dir"
	pluginConfigMap = "kubernetes.io/configmap"
	pluginSecret    = "kubernetes.io/secret"
	pluginDownward  = "kubernetes.io/downward-api"
	pluginProjected = "kubernetes.io/projected"
)

// pluginOf names the plugin of volumes that live in the Pod's folder; "" for others.
func pluginOf(v *v1.Volume) string {
	switch {
	case v.EmptyDir != nil:
		return pluginEmptyDir
	case v.ConfigMap != nil:
		return pluginConfigMap
	case v.Secret != nil:
		return pluginSecret
	case v.DownwardAPI != nil:
		return pluginDownward
	case v.Projected != nil:
		return pluginProjected
	}
	return ""
}

// sourceKind is the kind of a volume's source as a manifest writes it.
func sourceKind(v *v1.Volume) string {
	source := reflect.ValueOf(v.VolumeSource)
	for i := range source.NumField() {
		if !source.Field(i).IsNil() {
			name := source.Type().Field(i).Tag.Get("json")
			for j := range name {
				if name[j] == ',' {
					return name[:j]
				}
			}
			return name
		}
	}
	return "none"
}
