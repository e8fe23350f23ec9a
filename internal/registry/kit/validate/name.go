package validate

import (
	"strings"

	segment "k8s.io/apimachinery/pkg/api/validation/path"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Label requires a DNS label.
func Label(value string, path *field.Path) field.ErrorList {
	return refuse(value, path, utilvalidation.IsDNS1123Label(value))
}

// Subdomain requires DNS labels separated by dots.
func Subdomain(value string, path *field.Path) field.ErrorList {
	return refuse(value, path, utilvalidation.IsDNS1123Subdomain(value))
}

// QualifiedName requires a name with or without a domain prefix.
func QualifiedName(value string, path *field.Path) field.ErrorList {
	return refuse(value, path, utilvalidation.IsQualifiedName(value))
}

// CSIDriver requires the name of a CSI driver.
func CSIDriver(name string, path *field.Path) (faults field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(name) > maxCSIDriver {
		faults = append(faults, field.TooLong(path, "", maxCSIDriver))
	}
	return append(faults, refuse(name, path, utilvalidation.IsDNS1123Subdomain(strings.ToLower(name)))...)
}

const maxCSIDriver = 63

// refuse returns an error about the value for each reason.
func refuse(value string, path *field.Path, reasons []string) (faults field.ErrorList) {
	for _, reason := range reasons {
		faults = append(faults, field.Invalid(path, value, reason))
	}
	return faults
}

// Segment requires a name that is valid as a path segment.
func Segment(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return refuse(value, path, segment.IsValidPathSegmentName(value))
}

// DeclaredSegment is Segment for a field that a declared rule requires.
func DeclaredSegment(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{Missing(path)}
	}
	return Segment(value, path)
}
