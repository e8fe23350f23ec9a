// Package bootstrap holds the roles and bindings that every cluster has, and writes them to the store.
package bootstrap

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:embed policy.txt
var policyText string

// aggregateLabel is the label, without the name of the role, that makes a role part of an aggregated one.
const aggregateLabel = rbacv1.GroupName + "/aggregate-to-"

// Policy is a set of roles and bindings.
type Policy struct {
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
	Roles               []*rbacv1.Role
	RoleBindings        []*rbacv1.RoleBinding
}

// Default returns the roles and bindings that every cluster has.
func Default() (*Policy, error) { return parse(policyText) }

// parse parses the notation that the head of policy.txt describes.
func parse(text string) (*Policy, error) {
	p := &Policy{}
	var add func(line string) error // adds to the object that was begun last
	for i, line := range strings.Split(text, "\n") {
		var err error
		switch {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "\t"):
			if add == nil {
				err = fmt.Errorf("no object precedes it")
			} else {
				err = add(strings.TrimSpace(line))
			}
		default:
			add, err = p.begin(strings.Fields(line))
		}
		if err != nil {
			return nil, fmt.Errorf("line %d, %q: %w", i+1, line, err)
		}
	}
	p.aggregate()
	return p, nil
}

// begin adds an object and returns the function that adds a rule or subject to it.
func (p *Policy) begin(words []string) (func(string) error, error) {
	if len(words) < 2 {
		return nil, fmt.Errorf("want a kind and a name")
	}
	meta := defaultMeta(words[1])
	switch words[0] {
	case "clusterrole":
		r := &rbacv1.ClusterRole{ObjectMeta: meta}
		p.ClusterRoles = append(p.ClusterRoles, r)
		return addRule(&r.Rules), markAggregation(r, words[2:])
	case "role":
		r := &rbacv1.Role{ObjectMeta: meta}
		p.Roles = append(p.Roles, r)
		return addRule(&r.Rules), nil
	}
	if len(words) != 3 {
		return nil, fmt.Errorf("want a kind, a name and a role")
	}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: words[2]}
	switch words[0] {
	case "clusterrolebinding":
		b := &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref}
		p.ClusterRoleBindings = append(p.ClusterRoleBindings, b)
		return addSubject(&b.Subjects), nil
	case "rolebinding":
		if name, ok := strings.CutPrefix(words[2], "role/"); ok {
			ref.Kind, ref.Name = "Role", name
		}
		b := &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref}
		p.RoleBindings = append(p.RoleBindings, b)
		return addSubject(&b.Subjects), nil
	}
	return nil, fmt.Errorf("unknown kind %q", words[0])
}

// defaultMeta returns the metadata of an object that is reconciled at every start, unless its annotation is set
// to false.
func defaultMeta(name string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Name:        name,
		Labels:      map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
	}
	if namespace, name, ok := strings.Cut(name, "/"); ok {
		m.Namespace, m.Name = namespace, name
	}
	return m
}

func markAggregation(r *rbacv1.ClusterRole, words []string) error {
	for _, w := range words {
		how, name, _ := strings.Cut(w, ":")
		switch how {
		case "into":
			r.Labels[aggregateLabel+name] = "true"
		case "from":
			r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
				{MatchLabels: map[string]string{aggregateLabel + name: "true"}},
			}}
		default:
			return fmt.Errorf("%q is not into: or from:", w)
		}
	}
	return nil
}

func addRule(to *[]rbacv1.PolicyRule) func(string) error {
	return func(line string) error {
		what, verbs, ok := strings.Cut(line, ": ")
		words := strings.Fields(what)
		if !ok || len(words) < 2 {
			return fmt.Errorf("want GROUPS RESOURCES [NAMES]: VERBS")
		}
		rule := rbacv1.PolicyRule{Verbs: strings.Split(verbs, ",")}
		if words[0] == "urls" {
			rule.NonResourceURLs = strings.Split(words[1], ",")
			*to = append(*to, rule)
			return nil
		}
		for _, g := range strings.Split(words[0], ",") {
			rule.APIGroups = append(rule.APIGroups, strings.TrimSuffix(g, "core"))
		}
		rule.Resources = strings.Split(words[1], ",")
		if len(words) > 2 {
			rule.ResourceNames = strings.Split(strings.Trim(words[2], "[]"), ",")
		}
		*to = append(*to, rule)
		return nil
	}
}

func addSubject(to *[]rbacv1.Subject) func(string) error {
	return func(line string) error {
		kind, name, _ := strings.Cut(line, ":")
		switch kind {
		case "user":
			*to = append(*to, rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name})
		case "group":
			*to = append(*to, rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name})
		case "sa":
			namespace, name, _ := strings.Cut(name, "/")
			*to = append(*to, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name})
		default:
			return fmt.Errorf("unknown kind of subject %q", kind)
		}
		return nil
	}
}

// aggregate sets the rules of aggregated roles at once, so that they do not depend on the first run of the
// aggregation.
func (p *Policy) aggregate() {
	slices.SortFunc(p.ClusterRoles, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	// "admin" includes "edit", which includes "view": three rounds suffice.
	for range 3 {
		for _, r := range p.ClusterRoles {
			if rules, ok := Aggregate(r, p.ClusterRoles); ok {
				r.Rules = rules
			}
		}
	}
}

// Aggregate returns the rules of an aggregated role and true, or false for other roles. all must be sorted by
// name.
func Aggregate(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, bool) {
	if role.AggregationRule == nil {
		return nil, false
	}
	rules := []rbacv1.PolicyRule{}
	for _, s := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		if err != nil {
			continue // validation rejects such a selector
		}
		for _, other := range all {
			if other.Name == role.Name || !selector.Matches(labelSet(other.Labels)) {
				continue
			}
			for _, r := range other.Rules {
				if !slices.ContainsFunc(rules, func(have rbacv1.PolicyRule) bool { return equal(have, r) }) {
					rules = append(rules, r)
				}
			}
		}
	}
	return rules, true
}
