package validate

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The maximum number of a driver's parameters, and their maximum total size in bytes.
const (
	maxDriverParameters     = 512
	maxDriverParameterBytes = 256 << 10
)

// DriverName requires the name of a volume driver.
func DriverName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{Missing(path)}
	}
	return QualifiedName(strings.ToLower(name), path)
}

// DriverParameters requires that the parameters of a volume driver have names and are within the limits.
func DriverParameters(parameters map[string]string, path *field.Path) (faults field.ErrorList) {
	if len(parameters) > maxDriverParameters {
		return field.ErrorList{field.TooLong(path, "", maxDriverParameters)}
	}
	size := 0
	for name, value := range parameters {
		if name == "" {
			faults = append(faults, field.Invalid(path, name, "field can not be empty."))
		}
		size += len(name) + len(value)
	}
	if size > maxDriverParameterBytes {
		faults = append(faults, field.TooLong(path, "", maxDriverParameterBytes))
	}
	return faults
}
