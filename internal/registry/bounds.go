package registry

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// maxFaults is how many faults of an object are told. Their text is put together one by one, so that the cost of n is n²:
	// 12 000 faults, of 4 000 containers without an image, took 10 GB. Nobody mends more at once.
	maxFaults = 100
	// maxWarnings is the same for warnings; of those, the response's headers have room for 4 kB anyway.
	maxWarnings = 100
)

// firstFaults returns the faults that are told: the first of them, and how many there are besides.
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
