package rbac

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

func TestAllows(t *testing.T) {
	pods := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods", "*/scale"}, Verbs: []string{"get"}}
	named := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"a"}, Verbs: []string{"*"}}
	all := rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}
	urls := rbacv1.PolicyRule{NonResourceURLs: []string{"/healthz", "/api/*"}, Verbs: []string{"get"}}
	ask := func(verb, group, resource, sub, name string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{Verb: verb, APIGroup: group, Resource: resource, Subresource: sub, Name: name, ResourceRequest: true}
	}
	url := func(path string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{Verb: "get", Path: path}
	}
	for name, c := range map[string]struct {
		rule rbacv1.PolicyRule
		a    authorizer.AttributesRecord
		want bool
	}{
		"as it says":            {pods, ask("get", "", "pods", "", "x"), true},
		"another verb":          {pods, ask("list", "", "pods", "", ""), false},
		"another group":         {pods, ask("get", "apps", "pods", "", ""), false},
		"a part of it":          {pods, ask("get", "", "pods", "log", "x"), false},
		"that part of anything": {pods, ask("get", "", "things", "scale", "x"), true},
		"the part itself":       {pods, ask("get", "", "scale", "", ""), false},
		"its name":              {named, ask("delete", "", "pods", "", "a"), true},
		"another name":          {named, ask("delete", "", "pods", "", "b"), false},
		"no name":               {named, ask("create", "", "pods", "", ""), false},
		"everything":            {all, ask("delete", "x", "y", "z", "a"), true},
		"everything is no URL":  {all, url("/healthz"), false},
		"a URL":                 {urls, url("/healthz"), true},
		"below a URL":           {urls, url("/api/v1"), true},
		"beside a URL":          {urls, url("/healthz/etcd"), false},
		"a URL is no resource":  {urls, ask("get", "", "pods", "", ""), false},
	} {
		if got := Allows([]rbacv1.PolicyRule{c.rule}, c.a); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestPolicyFollowsItsObjects(t *testing.T) {
	p := newPolicy()
	role := &rbacv1.Role{Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}}}}
	role.Namespace, role.Name = "ns", "r"
	bind := func(subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
		b := &rbacv1.RoleBinding{RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "r"}, Subjects: subjects}
		b.Namespace, b.Name = "ns", "b"
		return b
	}
	sa := rbacv1.Subject{Kind: "ServiceAccount", Name: "sa"}
	count := func(name, namespace string, groups ...string) (rules int, fault string) {
		p.visit(&user.DefaultInfo{Name: name, Groups: groups}, namespace, func(_ *binding, _ *rbacv1.PolicyRule, err error) bool {
			if err != nil {
				fault = err.Error()
			} else {
				rules++
			}
			return true
		})
		return rules, fault
	}
	p.roleBindings().Set(bind(sa, rbacv1.Subject{Kind: "Group", Name: "g"}))
	if _, fault := count("x", "ns", "g"); !strings.Contains(fault, `role.rbac.authorization.k8s.io "r" not found`) {
		t.Errorf("before the role is there: %q", fault)
	}
	p.roles().Set(role)
	for name, c := range map[string]struct {
		user, namespace, group string
		want                   int
	}{
		"service account": {"system:serviceaccount:ns:sa", "ns", "", 1},
		"of elsewhere":    {"system:serviceaccount:other:sa", "ns", "", 0},
		"group":           {"x", "ns", "g", 1},
		"in another":      {"x", "other", "g", 0},
		"both ways":       {"system:serviceaccount:ns:sa", "ns", "g", 1},
	} {
		if got, _ := count(c.user, c.namespace, c.group); got != c.want {
			t.Errorf("%s: %d rules, want %d", name, got, c.want)
		}
	}
	p.roleBindings().Set(bind(sa))
	if got, _ := count("x", "ns", "g"); got != 0 {
		t.Error("the group is still bound")
	}
	p.roleBindings().Replace(nil)
	if len(p.bySubject) != 0 || len(p.bindings) != 0 {
		t.Errorf("something is left: %v", p.bySubject)
	}
}

func TestMissingRulesArePutTogether(t *testing.T) {
	rule := func(resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, Verbs: verbs}
	}
	got := compact([]rbacv1.PolicyRule{rule("pods", "get"), rule("nodes", "get"), rule("pods", "list")})
	if len(got) != 2 || compactString(got[0]) != `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}` {
		t.Errorf("compact = %v", got)
	}
}
