package rbac

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"podium.dev/podium/internal/apistore"
	"podium.dev/podium/internal/auth/bootstrap"
)

func resource(name string) schema.GroupResource {
	return schema.GroupResource{Group: rbacv1.GroupName, Resource: name}
}

// key names an object. The namespace is "" for cluster-wide objects.
type key struct{ namespace, name string }

// binding is a RoleBinding, or a ClusterRoleBinding if it has no namespace.
type binding struct {
	key
	ref      rbacv1.RoleRef
	subjects []rbacv1.Subject
}

// policy is the index of all roles and bindings. Cluster-wide ones are in namespace "".
type policy struct {
	mu       sync.RWMutex
	rules    map[key][]rbacv1.PolicyRule
	bindings map[key]*binding
	// bySubject maps each namespace and subject, "u:NAME" or "g:NAME", to its bindings. Service accounts are
	// users with a particular form of name.
	bySubject map[string]map[string][]*binding
	// changed has a value if a cluster role has changed since it was last read.
	changed chan struct{}
}

func newPolicy() *policy {
	return &policy{
		rules:     map[key][]rbacv1.PolicyRule{},
		bindings:  map[key]*binding{},
		bySubject: map[string]map[string][]*binding{},
		changed:   make(chan struct{}, 1),
	}
}

// preload adds a policy that is not stored yet.
func (p *policy) preload(initial *bootstrap.Policy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rules := func(k key, rules []rbacv1.PolicyRule) {
		if _, ok := p.rules[k]; !ok {
			p.setRulesLocked(k, rules)
		}
	}
	bind := func(k key, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		if p.bindings[k] == nil {
			p.setBindingLocked(&binding{k, ref, subjects})
		}
	}
	for _, r := range initial.ClusterRoles {
		rules(key{"", r.Name}, r.Rules)
	}
	for _, r := range initial.Roles {
		rules(key{r.Namespace, r.Name}, r.Rules)
	}
	for _, b := range initial.ClusterRoleBindings {
		bind(key{"", b.Name}, b.RoleRef, b.Subjects)
	}
	for _, b := range initial.RoleBindings {
		bind(key{b.Namespace, b.Name}, b.RoleRef, b.Subjects)
	}
}

// subjectKey returns the index key of a subject, or "" if the subject matches nobody.
func subjectKey(s rbacv1.Subject, namespace string) string {
	switch s.Kind {
	case rbacv1.UserKind:
		return "u:" + s.Name
	case rbacv1.GroupKind:
		return "g:" + s.Name
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		if namespace != "" {
			return "u:" + serviceaccount.MakeUsername(namespace, s.Name)
		}
	}
	return ""
}

// keys returns the index keys of a user.
func keys(who user.Info) []string {
	all := []string{"u:" + who.GetName()}
	for _, g := range who.GetGroups() {
		all = append(all, "g:"+g)
	}
	return all
}

// visit calls f with each rule that applies to a user, cluster-wide ones first, until f returns false. If the
// role of a binding does not exist, f gets an error.
func (p *policy) visit(who user.Info, namespace string, f func(*binding, *rbacv1.PolicyRule, error) bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	namespaces := []string{""}
	if namespace != "" {
		namespaces = append(namespaces, namespace)
	}
	seen := map[*binding]bool{}
	for _, ns := range namespaces {
		bySubject := p.bySubject[ns]
		if len(bySubject) == 0 {
			continue
		}
		for _, k := range keys(who) {
			for _, b := range bySubject[k] {
				if seen[b] {
					continue
				}
				seen[b] = true
				if !p.visitBindingLocked(b, f) {
					return
				}
			}
		}
	}
}

func (p *policy) visitBindingLocked(b *binding, f func(*binding, *rbacv1.PolicyRule, error) bool) bool {
	rules, err := p.roleRulesLocked(b.ref, b.namespace)
	if err != nil {
		return f(b, nil, err)
	}
	for i := range rules {
		if !f(b, &rules[i], nil) {
			return false
		}
	}
	return true
}

// roleRulesLocked returns the rules of the role that a binding in a namespace refers to.
func (p *policy) roleRulesLocked(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	var at key
	var of schema.GroupResource
	switch ref.Kind {
	case "ClusterRole":
		at, of = key{name: ref.Name}, resource("clusterroles")
	case "Role":
		at, of = key{namespace: namespace, name: ref.Name}, resource("roles")
	default:
		return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
	}
	rules, ok := p.rules[at]
	if !ok {
		// Kubernetes' lister uses the singular in this message.
		of.Resource = strings.TrimSuffix(of.Resource, "s")
		return nil, apierrors.NewNotFound(of, ref.Name)
	}
	return rules, nil
}

func (p *policy) setRulesLocked(k key, rules []rbacv1.PolicyRule) {
	if rules == nil {
		rules = []rbacv1.PolicyRule{}
	}
	p.rules[k] = rules
	p.note(k)
}

func (p *policy) removeRulesLocked(k key) {
	delete(p.rules, k)
	p.note(k)
}

func (p *policy) note(k key) {
	if k.namespace == "" {
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}
}

func (p *policy) setBindingLocked(b *binding) {
	p.removeBindingLocked(b.key)
	p.bindings[b.key] = b
	index := p.bySubject[b.namespace]
	if index == nil {
		index = map[string][]*binding{}
		p.bySubject[b.namespace] = index
	}
	for _, s := range b.subjects {
		if k := subjectKey(s, b.namespace); k != "" && !slices.Contains(index[k], b) {
			index[k] = append(index[k], b)
		}
	}
}

func (p *policy) removeBindingLocked(k key) {
	old := p.bindings[k]
	if old == nil {
		return
	}
	delete(p.bindings, k)
	index := p.bySubject[k.namespace]
	for _, s := range old.subjects {
		sk := subjectKey(s, k.namespace)
		index[sk] = slices.DeleteFunc(index[sk], func(b *binding) bool { return b == old })
		if len(index[sk]) == 0 {
			delete(index, sk)
		}
	}
	if len(index) == 0 {
		delete(p.bySubject, k.namespace)
	}
}

func (p *policy) roles() apistore.Sink[*rbacv1.Role] {
	return sink(&p.mu, held(p.rules, true), p.removeRulesLocked,
		func(r *rbacv1.Role) key { return key{r.Namespace, r.Name} },
		func(k key, r *rbacv1.Role) { p.setRulesLocked(k, r.Rules) })
}

func (p *policy) clusterRoles() apistore.Sink[*rbacv1.ClusterRole] {
	return sink(&p.mu, held(p.rules, false), p.removeRulesLocked,
		func(r *rbacv1.ClusterRole) key { return key{"", r.Name} },
		func(k key, r *rbacv1.ClusterRole) { p.setRulesLocked(k, r.Rules) })
}

func (p *policy) roleBindings() apistore.Sink[*rbacv1.RoleBinding] {
	return sink(&p.mu, held(p.bindings, true), p.removeBindingLocked,
		func(b *rbacv1.RoleBinding) key { return key{b.Namespace, b.Name} },
		func(k key, b *rbacv1.RoleBinding) { p.setBindingLocked(&binding{k, b.RoleRef, b.Subjects}) })
}

func (p *policy) clusterRoleBindings() apistore.Sink[*rbacv1.ClusterRoleBinding] {
	return sink(&p.mu, held(p.bindings, false), p.removeBindingLocked,
		func(b *rbacv1.ClusterRoleBinding) key { return key{"", b.Name} },
		func(k key, b *rbacv1.ClusterRoleBinding) { p.setBindingLocked(&binding{k, b.RoleRef, b.Subjects}) })
}

// held returns the keys of a map that are namespaced, or those that are cluster-wide.
func held[V any](m map[key]V, namespaced bool) func() []key {
	return func() (all []key) {
		for k := range m {
			if (k.namespace != "") == namespaced {
				all = append(all, k)
			}
		}
		return all
	}
}

// sink returns the sink for one of the four kinds.
func sink[T runtime.Object](mu *sync.RWMutex, held func() []key, remove func(key), keyOf func(T) key, set func(key, T)) apistore.Sink[T] {
	return apistore.Sink[T]{
		Replace: func(all []T) {
			mu.Lock()
			defer mu.Unlock()
			for _, k := range held() {
				remove(k)
			}
			for _, o := range all {
				set(keyOf(o), o)
			}
		},
		Set: func(o T) {
			mu.Lock()
			defer mu.Unlock()
			set(keyOf(o), o)
		},
		Remove: func(o T) {
			mu.Lock()
			defer mu.Unlock()
			remove(keyOf(o))
		},
	}
}

// describe formats the binding and its subject as Kubernetes does in the reason of an allowed request.
func (b *binding) describe(who user.Info) string {
	kind, name := "ClusterRoleBinding", b.name
	if b.namespace != "" {
		kind, name = "RoleBinding", b.name+"/"+b.namespace
	}
	mine := keys(who)
	i := slices.IndexFunc(b.subjects, func(s rbacv1.Subject) bool { return slices.Contains(mine, subjectKey(s, b.namespace)) })
	if i < 0 {
		return fmt.Sprintf("%s %q of %s %q", kind, name, b.ref.Kind, b.ref.Name)
	}
	subject := b.subjects[i].Name
	if b.subjects[i].Kind == rbacv1.ServiceAccountKind {
		subject += "/" + cmp.Or(b.subjects[i].Namespace, b.namespace)
	}
	return fmt.Sprintf("%s %q of %s %q to %s %q", kind, name, b.ref.Kind, b.ref.Name, b.subjects[i].Kind, subject)
}
