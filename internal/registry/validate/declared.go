package validate

import "k8s.io/apimachinery/pkg/util/validation/field"

// Kubernetes checks most fields by hand and others by rules declared on its types. The faults that the declared
// rules find come last, whatever their path. A kind that has both marks the latter with Declared and puts all
// together with InOrder.

const declared = "declared"

// Declared marks faults as found by a declared rule.
func Declared(faults ...*field.Error) field.ErrorList {
	for _, f := range faults {
		f.Origin = declared
	}
	return faults
}

// Missing is the fault of a value that a declared rule wants to be there.
func Missing(path *field.Path) *field.Error { return Declared(field.Required(path, ""))[0] }

// InOrder puts faults together, those of declared rules last.
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

// Kept is about the faults found within a field that must stay as it was: when it changed, the declared rules look no
// further, and what the older ones found stands in its place.
func Kept(changed bool, faults field.ErrorList) field.ErrorList {
	if changed {
		for _, f := range faults {
			f.Origin = ""
		}
	}
	return faults
}
