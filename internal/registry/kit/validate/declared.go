package validate

import "k8s.io/apimachinery/pkg/util/validation/field"

// Kubernetes validates most fields by hand and others by rules declared on its types. The errors of declared
// rules come last, whatever their path. A kind that has both marks the latter with Declared and combines all
// with InOrder.

const declared = "declared"

// Declared marks errors as found by a declared rule.
func Declared(faults ...*field.Error) field.ErrorList {
	for _, f := range faults {
		f.Origin = declared
	}
	return faults
}

// Missing returns the error of a value that a declared rule requires.
func Missing(path *field.Path) *field.Error { return Declared(field.Required(path, ""))[0] }

// InOrder concatenates errors, those of declared rules last.
func InOrder(parts ...field.ErrorList) (faults field.ErrorList) {
	var last field.ErrorList
	for _, part := range parts {
		for _, f := range part {
			if f.Origin == declared {
				last = append(last, f)
			} else {
				faults = append(faults, f)
			}
		}
	}
	return append(faults, last...)
}

// Kept adjusts the errors found within an immutable field: if it changed, declared rules are skipped, and the
// errors of the handwritten rules take their place.
func Kept(changed bool, faults field.ErrorList) field.ErrorList {
	if changed {
		for _, f := range faults {
			f.Origin = ""
		}
	}
	return faults
}
