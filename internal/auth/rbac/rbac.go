// Package rbac authorizes users by roles and bindings, and keeps them from granting rights that they do not
// have.
//
// It follows the four kinds in the store and indexes bindings by subject, so that a decision looks only at the
// bindings of the user and of the user's groups.
package rbac

import (
	"context"
	"fmt"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"podium.dev/podium/internal/apistore"
	"podium.dev/podium/internal/auth/bootstrap"
)

// Authorizer decides by the stored roles and bindings.
type Authorizer struct {
	policy  *policy
	initial *bootstrap.Policy
	preload sync.Once
	synced  []<-chan struct{}
}

var (
	_ authorizer.Authorizer   = &Authorizer{}
	_ authorizer.RuleResolver = &Authorizer{}
)

// New returns an authorizer. It knows nothing before Follow is called. On a cluster without roles it uses the
// policy at first, which is about to be stored.
func New(policy *bootstrap.Policy) *Authorizer {
	return &Authorizer{policy: newPolicy(), initial: policy}
}

// Follow keeps the authorizer up to date with the stores until ctx ends. It must be called once, before the
// first decision. Decisions wait until everything is known.
func (a *Authorizer) Follow(ctx context.Context, stores apistore.Stores) error {
	fresh, err := isFresh(ctx, stores)
	if err != nil {
		return err
	}
	if !fresh {
		a.initial = nil
	}
	p := a.policy
	roles, err := apistore.Follow(ctx, stores, resource("roles"), p.roles())
	if err != nil {
		return fmt.Errorf("follow the roles: %w", err)
	}
	clusterRoles, err := apistore.Follow(ctx, stores, resource("clusterroles"), p.clusterRoles())
	if err != nil {
		return fmt.Errorf("follow the cluster roles: %w", err)
	}
	bindings, err := apistore.Follow(ctx, stores, resource("rolebindings"), p.roleBindings())
	if err != nil {
		return fmt.Errorf("follow the role bindings: %w", err)
	}
	clusterBindings, err := apistore.Follow(ctx, stores, resource("clusterrolebindings"), p.clusterRoleBindings())
	if err != nil {
		return fmt.Errorf("follow the cluster role bindings: %w", err)
	}
	a.synced = []<-chan struct{}{roles, clusterRoles, bindings, clusterBindings}
	return nil
}

// isFresh reports whether no role was ever stored.
func isFresh(ctx context.Context, stores apistore.Stores) (bool, error) {
	all, err := apistore.ListCurrent[*rbacv1.ClusterRole](ctx, stores, resource("clusterroles"), "")
	if err != nil {
		return false, fmt.Errorf("list the cluster roles: %w", err)
	}
	return len(all) == 0, nil
}

// Wait waits until all roles and bindings are known.
func (a *Authorizer) Wait(ctx context.Context) error {
	for _, c := range a.synced {
		select {
		case <-c:
		case <-ctx.Done():
			return fmt.Errorf("wait for the roles and bindings: %w", ctx.Err())
		}
	}
	if a.initial != nil {
		a.preload.Do(func() { a.policy.preload(a.initial) })
	}
	return nil
}

// ClusterRolesChanged returns a channel that yields after a cluster role has changed, once for several changes.
func (a *Authorizer) ClusterRolesChanged() <-chan struct{} { return a.policy.changed }

// Authorize implements authorizer.Authorizer. It never denies: other authorizers may allow what no rule allows.
func (a *Authorizer) Authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	if err := a.Wait(ctx); err != nil {
		return authorizer.DecisionNoOpinion, "", err
	}
	var reason string
	var faults []error
	a.policy.visit(attrs.GetUser(), attrs.GetNamespace(), func(b *binding, rule *rbacv1.PolicyRule, err error) bool {
		if err != nil {
			faults = append(faults, err)
			return true
		}
		if !allows(rule, attrs) {
			return true
		}
		reason = "RBAC: allowed by " + b.describe(attrs.GetUser())
		return false
	})
	if reason != "" {
		return authorizer.DecisionAllow, reason, nil
	}
	if len(faults) > 0 {
		reason = fmt.Sprintf("RBAC: %v", utilerrors.NewAggregate(faults))
	}
	return authorizer.DecisionNoOpinion, reason, nil
}

// ConditionsAwareAuthorize implements authorizer.Authorizer. There are no conditions.
func (a *Authorizer) ConditionsAwareAuthorize(ctx context.Context, attrs authorizer.Attributes) authorizer.ConditionsAwareDecision {
	return authorizer.ConditionsAwareDecisionFromParts(a.Authorize(ctx, attrs))
}

// EvaluateConditions implements authorizer.Authorizer.
func (a *Authorizer) EvaluateConditions(context.Context, authorizer.ConditionsAwareDecision, authorizer.ConditionsData) (authorizer.Decision, string, error) {
	return authorizer.DecisionDeny, "", authorizer.ErrorConditionEvaluationNotSupported
}

// Rules returns the rules that apply to a user in a namespace, or only the cluster-wide ones if the namespace
// is "". If it returns an error, the rules are those that could be resolved.
func (a *Authorizer) Rules(ctx context.Context, who user.Info, namespace string) ([]rbacv1.PolicyRule, error) {
	if err := a.Wait(ctx); err != nil {
		return nil, err
	}
	var rules []rbacv1.PolicyRule
	var faults []error
	a.policy.visit(who, namespace, func(_ *binding, rule *rbacv1.PolicyRule, err error) bool {
		if err != nil {
			faults = append(faults, err)
		} else {
			rules = append(rules, *rule)
		}
		return true
	})
	return rules, utilerrors.NewAggregate(faults)
}

// RulesFor implements authorizer.RuleResolver, for "kubectl auth can-i --list".
func (a *Authorizer) RulesFor(ctx context.Context, who user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	rules, err := a.Rules(ctx, who, namespace)
	var resources []authorizer.ResourceRuleInfo
	var urls []authorizer.NonResourceRuleInfo
	for _, r := range rules {
		if len(r.Resources) > 0 {
			resources = append(resources, &authorizer.DefaultResourceRuleInfo{
				Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames,
			})
		}
		if len(r.NonResourceURLs) > 0 {
			urls = append(urls, &authorizer.DefaultNonResourceRuleInfo{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	return resources, urls, false, err
}
