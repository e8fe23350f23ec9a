package validate

import (
	"fmt"
	"strings"

	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// SignerName requires the name of a certificate signer, DOMAIN/PATH, both made of labels separated by dots.
func SignerName(name string, path *field.Path) (faults field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, rest, found := strings.Cut(name, "/")
	if !found || strings.Contains(rest, "/") {
		return field.ErrorList{field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	const longestDomain = utilvalidation.DNS1123SubdomainMaxLength
	if len(domain) > longestDomain {
		faults = append(faults, field.TooLong(path, "", longestDomain))
	}
	faults = append(faults, eachLabel(domain, utilvalidation.IsDNS1123Label, path)...)
	if !strings.Contains(domain, ".") {
		faults = append(faults, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	faults = append(faults, eachLabel(rest, utilvalidation.IsDNS1123Subdomain, path)...)
	// The path has room for NAMESPACE.NAME.
	if longest := longestDomain + 1 + utilvalidation.DNS1123LabelMaxLength + 1 + utilvalidation.DNS1123SubdomainMaxLength; len(name) > longest {
		faults = append(faults, field.TooLong(path, "", longest))
	}
	return faults
}

// eachLabel applies the rule to the labels of a dotted text, and stops at the first invalid one.
func eachLabel(text string, rule func(string) []string, path *field.Path) (faults field.ErrorList) {
	for label := range strings.SplitSeq(text, ".") {
		if words := rule(label); len(words) > 0 {
			for _, w := range words {
				faults = append(faults, field.Invalid(path, text, fmt.Sprintf("validating label %q: %s", label, w)))
			}
			return faults
		}
	}
	return nil
}
