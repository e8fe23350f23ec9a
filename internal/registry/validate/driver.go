package validate

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// How many parameters a driver may be given, and how many bytes in all.
const (
	maxDriverParameters     = 512
	maxDriverParameterBytes = 256 << 10
)

// DriverName wants the name of a driver of volumes.
func DriverName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{Missing(path)}
	}
	return QualifiedName(strings.ToLower(name), path)
}

// DriverParameters wants parameters for a driver of volumes to have names, and not to be too many.
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
