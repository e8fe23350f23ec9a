package rbac

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// Escalation is the admission plugin that keeps users from granting rights that they do not have, either by
// writing rules into a role (unless they may "escalate" it) or by binding a role (unless they may "bind" it).
type Escalation struct {
	*admission.Handler
	rbac *Authorizer
	all  authorizer.UnconditionalAuthorizer
}

var _ admission.ValidationInterface = &Escalation{}

// NewEscalation returns the admission plugin. rbac provides the rules that users have; all decides on the verbs
// "escalate" and "bind".
func NewEscalation(rbac *Authorizer, all authorizer.UnconditionalAuthorizer) *Escalation {
	return &Escalation{Handler: admission.NewHandler(admission.Create, admission.Update), rbac: rbac, all: all}
}

// Validate implements admission.ValidationInterface.
func (e *Escalation) Validate(ctx context.Context, attrs admission.Attributes, _ admission.ObjectInterfaces) error {
	if attrs.GetResource().Group != rbacv1.GroupName || attrs.GetSubresource() != "" {
		return nil
	}
	if slices.Contains(attrs.GetUserInfo().GetGroups(), user.SystemPrivilegedGroup) || onlyCollectorsFields(attrs.GetObject(), attrs.GetOldObject()) {
		return nil
	}
	err := e.check(ctx, attrs)
	if err == nil || apierrors.IsNotFound(err) { // a role may be bound before it exists
		return err
	}
	return admission.NewForbidden(attrs, err)
}

func (e *Escalation) check(ctx context.Context, attrs admission.Attributes) error {
	switch o := attrs.GetObject().(type) {
	case *rbacv1.Role:
		return e.checkRole(ctx, attrs, "roles", o.Rules)
	case *rbacv1.ClusterRole:
		return e.checkRole(ctx, attrs, "clusterroles", o.Rules)
	case *rbacv1.RoleBinding:
		return e.checkBinding(ctx, attrs, o.RoleRef, attrs.GetNamespace())
	case *rbacv1.ClusterRoleBinding:
		return e.checkBinding(ctx, attrs, o.RoleRef, "")
	}
	return nil
}

func (e *Escalation) checkRole(ctx context.Context, attrs admission.Attributes, resource string, rules []rbacv1.PolicyRule) error {
	name := ""
	if info, ok := request.RequestInfoFrom(ctx); ok {
		name = info.Name // "" for a POST: a right to certain names only does not suffice
	}
	if e.may(ctx, attrs.GetUserInfo(), "escalate", resource, attrs.GetNamespace(), name) {
		return nil
	}
	if err := e.covered(ctx, attrs, rules); err != nil {
		return err
	}
	// An aggregated role may come to contain any rule.
	if aggregates(attrs.GetObject()) || aggregates(attrs.GetOldObject()) {
		if e.covered(ctx, attrs, everything) != nil {
			return errors.New("must have cluster-admin privileges to use the aggregationRule")
		}
	}
	return nil
}

var everything = []rbacv1.PolicyRule{
	{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}},
	{NonResourceURLs: []string{"*"}, Verbs: []string{"*"}},
}

func aggregates(o runtime.Object) bool {
	r, ok := o.(*rbacv1.ClusterRole)
	return ok && r != nil && r.AggregationRule != nil && len(r.AggregationRule.ClusterRoleSelectors) > 0
}

func (e *Escalation) checkBinding(ctx context.Context, attrs admission.Attributes, ref rbacv1.RoleRef, namespace string) error {
	resource := map[string]string{"ClusterRole": "clusterroles", "Role": "roles"}[ref.Kind]
	if resource != "" && e.may(ctx, attrs.GetUserInfo(), "bind", resource, namespace, ref.Name) {
		return nil
	}
	if err := e.rbac.Wait(ctx); err != nil {
		return err
	}
	e.rbac.policy.mu.RLock()
	rules, err := e.rbac.policy.roleRulesLocked(ref, namespace)
	e.rbac.policy.mu.RUnlock()
	if err != nil {
		return err
	}
	return e.covered(ctx, attrs, rules)
}

func (e *Escalation) may(ctx context.Context, who user.Info, verb, resource, namespace, name string) bool {
	decision, _, _ := e.all.Authorize(ctx, authorizer.AttributesRecord{
		User: who, Verb: verb, APIGroup: rbacv1.GroupName, APIVersion: "*", Resource: resource,
		Namespace: namespace, Name: name, ResourceRequest: true,
	})
	return decision == authorizer.DecisionAllow
}

// covered returns an error that lists the missing rules unless the user has all of the rules.
func (e *Escalation) covered(ctx context.Context, attrs admission.Attributes, rules []rbacv1.PolicyRule) error {
	who := attrs.GetUserInfo()
	own, faults := e.rbac.Rules(ctx, who, attrs.GetNamespace())
	ok, missing := validation.Covers(own, rules)
	if ok {
		return nil
	}
	var lines []string
	for _, r := range compact(missing) {
		lines = append(lines, compactString(r))
	}
	slices.Sort(lines)
	msg := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		who.GetName(), who.GetGroups(), strings.Join(slices.Compact(lines), "\n"))
	if faults != nil {
		msg += fmt.Sprintf("; resolution errors: %v", []error{faults})
	}
	return errors.New(msg)
}

// compact merges rules for the same single resource by their verbs, as a person would write them.
func compact(rules []rbacv1.PolicyRule) (out []rbacv1.PolicyRule) {
	type what struct {
		group, resource, name string
		names                 int
	}
	at := map[what]int{}
	for _, r := range rules {
		if len(r.NonResourceURLs) > 0 || len(r.APIGroups) != 1 || len(r.Resources) != 1 || len(r.ResourceNames) > 1 {
			out = append(out, r)
			continue
		}
		w := what{r.APIGroups[0], r.Resources[0], strings.Join(r.ResourceNames, ""), len(r.ResourceNames)}
		if i, ok := at[w]; ok {
			out[i].Verbs = append(out[i].Verbs, r.Verbs...)
			continue
		}
		at[w] = len(out)
		out = append(out, *r.DeepCopy())
	}
	return out
}

// compactString formats a rule as Kubernetes' messages do.
func compactString(r rbacv1.PolicyRule) string {
	var parts []string
	for _, p := range []struct {
		name   string
		values []string
	}{
		{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"NonResourceURLs", r.NonResourceURLs},
		{"ResourceNames", r.ResourceNames}, {"Verbs", r.Verbs},
	} {
		if len(p.values) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", p.name, p.values))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// onlyCollectorsFields reports whether an update changes only what the garbage collector writes. The collector
// must be able to remove roles that grant more than it has.
func onlyCollectorsFields(obj, old runtime.Object) bool {
	if old == nil || reflect.ValueOf(old).IsNil() {
		return false
	}
	like := obj.DeepCopyObject()
	to, err := meta.Accessor(like)
	if err != nil {
		return false
	}
	from, err := meta.Accessor(old)
	if err != nil {
		return false
	}
	to.SetOwnerReferences(from.GetOwnerReferences())
	to.SetFinalizers(from.GetFinalizers())
	to.SetManagedFields(from.GetManagedFields())
	return equality.Semantic.DeepEqual(like, old)
}
