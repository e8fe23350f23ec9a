package kit

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// maxFaults is the number of errors that are reported for an object. The API machinery appends their texts
	// one by one, so that n errors cost n²: the 12 000 errors of 4 000 containers without an image took 10 GB.
	// Nobody fixes more than this at once.
	maxFaults = 100
	// maxWarnings is the number of warnings that are reported. The response's headers have room for only 4 kB
	// of them anyway.
	maxWarnings = 100
)

// firstFaults returns the first errors, followed by one with the number of the others.
func firstFaults(all field.ErrorList) field.ErrorList {
	if len(all) <= maxFaults {
		return all
	}
	more := len(all) - maxFaults
	return append(all[:maxFaults:maxFaults], field.InternalError(nil, fmt.Errorf("and %d more faults, which are not listed", more)))
}

// firstWarnings is firstFaults for warnings.
func firstWarnings(all []string) []string {
	if len(all) <= maxWarnings {
		return all
	}
	return append(all[:maxWarnings:maxWarnings], fmt.Sprintf("and %d more warnings, which are not listed", len(all)-maxWarnings))
}
