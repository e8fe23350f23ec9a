package certificatesigningrequest

import (
	"fmt"
	"strings"

	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The maximum length of a signer name: a domain, and a path with room for a namespace and a name.
const (
	maxDomain = utilvalidation.DNS1123SubdomainMaxLength
	maxSigner = maxDomain + 1 + utilvalidation.DNS1123LabelMaxLength + 1 + utilvalidation.DNS1123SubdomainMaxLength
)

// checkSigner requires a signer name: a domain of at least two labels, a slash and a path, such as
// "example.com/ca".
func checkSigner(name string, path *field.Path) (faults field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(rest, "/") {
		return field.ErrorList{field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	if len(domain) > maxDomain {
		faults = append(faults, field.TooLong(path, "", maxDomain))
	}
	labels := strings.Split(domain, ".")
	faults = append(faults, firstFault(domain, labels, utilvalidation.IsDNS1123Label, path)...)
	if len(labels) < 2 {
		faults = append(faults, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	faults = append(faults, firstFault(rest, strings.Split(rest, "."), utilvalidation.IsDNS1123Subdomain, path)...)
	if len(name) > maxSigner {
		faults = append(faults, field.TooLong(path, "", maxSigner))
	}
	return faults
}

// firstFault returns the errors of the first invalid part of the value.
func firstFault(value string, parts []string, check func(string) []string, path *field.Path) (faults field.ErrorList) {
	for _, part := range parts {
		for _, fault := range check(part) {
			faults = append(faults, field.Invalid(path, value, fmt.Sprintf("validating label %q: %s", part, fault)))
		}
		if len(faults) > 0 {
			break
		}
	}
	return faults
}
