// Package downward answers what a Pod may ask about itself: its fields, and its containers' resources, as
// environment variables and downward API volumes show them.
package downward

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Addresses are what a Pod's spec does not know of itself. The main address of each is the first.
type Addresses struct {
	HostIPs, PodIPs []string
}

// Field returns the value that a fieldRef names.
func Field(ref *v1.ObjectFieldSelector, pod *v1.Pod, at Addresses) (string, error) {
	if ref.APIVersion != "" && ref.APIVersion != "v1" {
		return "", fmt.Errorf("unsupported pod version: %s", ref.APIVersion)
	}
	if path, key, ok := subscript(ref.FieldPath); ok {
		return keyed(ref.FieldPath, path, key, pod)
	}
	switch ref.FieldPath {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return FormatMap(pod.Labels), nil
	case "metadata.annotations":
		return FormatMap(pod.Annotations), nil
	case "spec.nodeName", "spec.host":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(at.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(at.HostIPs, ","), nil
	case "status.podIP":
		return first(at.PodIPs), nil
	case "status.podIPs":
		return strings.Join(at.PodIPs, ","), nil
	case "spec.restartPolicy", "spec.schedulerName", "status.phase":
		return "", fmt.Errorf("unsupported fieldPath: %v", ref.FieldPath)
	}
	return "", fmt.Errorf("field label not supported: %s", ref.FieldPath)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// keyed returns one label or annotation.
func keyed(field, path, key string, pod *v1.Pod) (string, error) {
	var values map[string]string
	check := key
	switch path {
	case "metadata.labels":
		values = pod.Labels
	case "metadata.annotations":
		values, check = pod.Annotations, strings.ToLower(key)
	default:
		return "", fmt.Errorf("field label does not support subscript: %s", field)
	}
	if problems := validation.IsQualifiedName(check); len(problems) > 0 {
		return "", fmt.Errorf("invalid key subscript in %s: %s", field, strings.Join(problems, ";"))
	}
	return values[key], nil
}

// subscript splits metadata.labels['key'] into its path and key.
func subscript(field string) (path, key string, ok bool) {
	inner, ok := strings.CutSuffix(field, "']")
	if !ok {
		return "", "", false
	}
	path, key, ok = strings.Cut(inner, "['")
	return path, key, ok && path != ""
}

// FormatMap writes labels or annotations one a line in the order of their keys, values in Go's quotes.
func FormatMap(m map[string]string) string {
	var b strings.Builder
	for i, key := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(key)
		b.WriteByte('=')
		b.WriteString(strconv.Quote(m[key]))
	}
	return b.String()
}
