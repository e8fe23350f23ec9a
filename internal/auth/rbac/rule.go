package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Allows reports whether any of the rules allows the request.
func Allows(rules []rbacv1.PolicyRule, attrs authorizer.Attributes) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return allows(&r, attrs) })
}

func allows(r *rbacv1.PolicyRule, attrs authorizer.Attributes) bool {
	if !matches(r.Verbs, attrs.GetVerb()) {
		return false
	}
	if !attrs.IsResourceRequest() {
		return slices.ContainsFunc(r.NonResourceURLs, func(u string) bool { return matchesURL(u, attrs.GetPath()) })
	}
	return matches(r.APIGroups, attrs.GetAPIGroup()) &&
		matchesResource(r.Resources, attrs.GetResource(), attrs.GetSubresource()) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, attrs.GetName()))
}

// matches reports whether a list contains a word or "*".
func matches(list []string, word string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return s == "*" || s == word })
}

// matchesResource reports whether a list matches the resource, as "resource", "resource/sub" or "*/sub".
func matchesResource(list []string, resource, sub string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		if s == rbacv1.ResourceAll {
			return true
		}
		of, part, hasPart := strings.Cut(s, "/")
		if sub == "" {
			return !hasPart && of == resource
		}
		return hasPart && part == sub && (of == "*" || of == resource)
	})
}

// matchesURL reports whether a path matches a rule, which may end in "*".
func matchesURL(rule, path string) bool {
	if rule == rbacv1.NonResourceAll || rule == path {
		return true
	}
	return strings.HasSuffix(rule, "*") && strings.HasPrefix(path, strings.TrimRight(rule, "*"))
}
