package validate

import "sort"

// oldNodeLabels maps deprecated node labels to their warnings.
var oldNodeLabels = map[string]string{
	"beta.kubernetes.io/arch":                       `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                         `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region":      `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":        `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
	"beta.kubernetes.io/instance-type":              `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
	"app.kubernetes.io/created-by":                  `deprecated since v1.9`,
	"scheduler.alpha.kubernetes.io/preferAvoidPods": `deprecated since v1.22; use Taints and Tolerations instead`,
	"node-role.kubernetes.io/master":                `use "node-role.kubernetes.io/control-plane" instead`,
}

// OldNodeLabels returns a warning for each deprecated label in a node selector.
func OldNodeLabels(selector map[string]string) (warnings []string) {
	for label := range selector {
		if w, old := OldNodeLabel(label); old {
			warnings = append(warnings, w)
		}
	}
	sort.Strings(warnings)
	return warnings
}

// OldNodeLabel returns the warning about a node label, and whether it is deprecated.
func OldNodeLabel(label string) (warning string, old bool) {
	warning, old = oldNodeLabels[label]
	return warning, old
}
