// Package node keeps a node to what is its own: it may read the Secrets, ConfigMaps and service accounts of
// the Pods that are bound to it and no others, and write its own Node, Lease and the status of its Pods.
//
// The authorizer decides by what a request names; the Restriction, which is admission, by what is in it.
package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"podium.dev/podium/internal/apistore"
	"podium.dev/podium/internal/auth/rbac"
)

const userPrefix = "system:node:"

// Identity reports whether a user is a node, and which; the name is "" for a node that does not say its name.
func Identity(u user.Info) (name string, isNode bool) {
	if u == nil || !slices.Contains(u.GetGroups(), user.NodesGroup) {
		return "", false
	}
	name, ok := strings.CutPrefix(u.GetName(), userPrefix)
	return name, ok
}

// Authorizer decides on the requests of nodes.
type Authorizer struct {
	rules     []rbacv1.PolicyRule
	relations *relations
	volumes   *volumes
	stores    apistore.Stores
}

var (
	_ authorizer.Authorizer   = &Authorizer{}
	_ authorizer.RuleResolver = &Authorizer{}
)

// New makes an authorizer. The rules say what every node may do with the kinds that are nobody's own.
func New(rules []rbacv1.PolicyRule) *Authorizer {
	return &Authorizer{rules: rules, relations: newRelations(), volumes: newVolumes()}
}

// Follow keeps the authorizer in step with the Pods and PersistentVolumes until the context ends. It must be called once, before
// the first decision.
func (a *Authorizer) Follow(ctx context.Context, stores apistore.Stores) error {
	a.stores = stores
	if _, err := apistore.Follow(ctx, stores, apistore.Core("pods"), a.relations.sink()); err != nil {
		return fmt.Errorf("follow the Pods of the nodes: %w", err)
	}
	if _, err := apistore.Follow(ctx, stores, apistore.Core("persistentvolumes"), a.volumes.sink()); err != nil {
		return fmt.Errorf("follow the PersistentVolumes: %w", err)
	}
	return nil
}

// Authorize implements authorizer.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	name, isNode := Identity(attrs.GetUser())
	if !isNode {
		return authorizer.DecisionNoOpinion, "", nil
	}
	if name == "" {
		return authorizer.DecisionNoOpinion, fmt.Sprintf("unknown node for user %q", attrs.GetUser().GetName()), nil
	}
	if ok, why := a.decide(ctx, name, attrs); !ok {
		return authorizer.DecisionNoOpinion, why, nil
	}
	return authorizer.DecisionAllow, "", nil
}

// ConditionsAwareAuthorize implements authorizer.Authorizer: there are no conditions.
func (a *Authorizer) ConditionsAwareAuthorize(ctx context.Context, attrs authorizer.Attributes) authorizer.ConditionsAwareDecision {
	return authorizer.ConditionsAwareDecisionFromParts(a.Authorize(ctx, attrs))
}

// EvaluateConditions implements authorizer.Authorizer.
func (a *Authorizer) EvaluateConditions(context.Context, authorizer.ConditionsAwareDecision, authorizer.ConditionsData) (authorizer.Decision, string, error) {
	return authorizer.DecisionDeny, "", authorizer.ErrorConditionEvaluationNotSupported
}

// RulesFor implements authorizer.RuleResolver: what a node may do cannot be listed.
func (a *Authorizer) RulesFor(_ context.Context, who user.Info, _ string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	if _, isNode := Identity(who); isNode {
		return nil, nil, true, fmt.Errorf("node authorizer does not support user rule resolution")
	}
	return nil, nil, false, nil
}

// others are the groups whose kinds have rules of their own for nodes that Podium has not: it serves none of
// them, and a node gets nothing of them.
var others = map[schema.GroupResource]bool{
	{Group: "storage.k8s.io", Resource: "volumeattachments"}:           true,
	{Group: "storage.k8s.io", Resource: "csinodes"}:                    true,
	{Group: "resource.k8s.io", Resource: "resourceclaims"}:             true,
	{Group: "resource.k8s.io", Resource: "resourceslices"}:             true,
	{Group: "certificates.k8s.io", Resource: "podcertificaterequests"}: true,
}

func (a *Authorizer) decide(ctx context.Context, name string, attrs authorizer.Attributes) (ok bool, why string) {
	if attrs.IsResourceRequest() {
		r := schema.GroupResource{Group: attrs.GetAPIGroup(), Resource: attrs.GetResource()}
		switch r {
		case apistore.Core("secrets"), apistore.Core("configmaps"):
			return a.read(ctx, name, attrs)
		case apistore.Core("serviceaccounts"):
			return a.serviceAccount(ctx, name, attrs)
		case apistore.Core("persistentvolumeclaims"):
			return a.claim(ctx, name, attrs)
		case apistore.Core("persistentvolumes"):
			return a.get(ctx, name, attrs)
		case apistore.Core("nodes"):
			return node(name, attrs)
		case apistore.Core("pods"):
			return a.pod(ctx, name, attrs)
		case schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}:
			return lease(name, attrs)
		}
		if others[r] {
			return false, unrelated(name)
		}
	}
	return rbac.Allows(a.rules, attrs), ""
}

func unrelated(node string) string {
	return fmt.Sprintf("no relationship found between node '%s' and this object", node)
}

// related answers for the one object that a request names.
func (a *Authorizer) related(ctx context.Context, name string, attrs authorizer.Attributes) (bool, string) {
	if attrs.GetName() == "" {
		return false, "No Object name found"
	}
	t := thing{attrs.GetResource(), attrs.GetNamespace(), attrs.GetName()}
	ways := append(a.volumes.claims(t), t)
	if slices.ContainsFunc(ways, func(t thing) bool { return a.relations.related(name, t) }) {
		return true, ""
	}
	if t.resource == "persistentvolumes" && len(ways) == 1 {
		ways = append(ways, a.claimNow(ctx, t.name)...)
	}
	if slices.ContainsFunc(ways, func(t thing) bool { return a.relatedNow(ctx, name, t) }) {
		return true, ""
	}
	return false, unrelated(name)
}

// claimNow reads the claim of a volume that the authorizer has not heard of yet.
func (a *Authorizer) claimNow(ctx context.Context, name string) []thing {
	pv, err := apistore.Get[*corev1.PersistentVolume](ctx, a.stores, apistore.Core("persistentvolumes"), "", name)
	if err != nil {
		return nil
	}
	b, ok := bindingOf(pv)
	if !ok {
		return nil
	}
	return []thing{b.claim}
}

// relatedNow looks through the node's Pods themselves: the node may have seen a new Pod a moment before the
// relations took it in, and asks for what that needs at once.
func (a *Authorizer) relatedNow(ctx context.Context, name string, t thing) bool {
	store := a.stores(apistore.Core("pods"))
	if store == nil {
		return false
	}
	list, err := store.List(apistore.Context(ctx, t.namespace), &metainternal.ListOptions{
		ResourceVersion: "0",
		FieldSelector:   fields.OneTermEqualSelector("spec.nodeName", name),
	})
	if err != nil {
		return false
	}
	pods, ok := list.(*corev1.PodList)
	return ok && slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return slices.Contains(things(&p), t) })
}

func (a *Authorizer) read(ctx context.Context, name string, attrs authorizer.Attributes) (bool, string) {
	switch {
	case !slices.Contains([]string{"get", "list", "watch"}, attrs.GetVerb()):
		return false, "can only read resources of this type"
	case attrs.GetSubresource() != "":
		return false, "cannot read subresource"
	case attrs.GetNamespace() == "":
		return false, "can only read namespaced object of this type"
	}
	return a.related(ctx, name, attrs)
}

func (a *Authorizer) serviceAccount(ctx context.Context, name string, attrs authorizer.Attributes) (bool, string) {
	switch {
	case attrs.GetVerb() == "get" && attrs.GetSubresource() == "":
		return a.read(ctx, name, attrs)
	case attrs.GetVerb() != "create" || attrs.GetName() == "":
		return false, "can only create tokens for individual service accounts"
	case attrs.GetSubresource() != "token":
		return false, "can only create token subresource of serviceaccount"
	}
	return a.related(ctx, name, attrs)
}

func (a *Authorizer) claim(ctx context.Context, name string, attrs authorizer.Attributes) (bool, string) {
	switch {
	case attrs.GetSubresource() == "status":
		if attrs.GetVerb() != "update" && attrs.GetVerb() != "patch" {
			return false, "can only get/update/patch this type"
		}
	default:
		return a.get(ctx, name, attrs)
	}
	return a.related(ctx, name, attrs)
}

// get allows reading single objects of a kind.
func (a *Authorizer) get(ctx context.Context, name string, attrs authorizer.Attributes) (bool, string) {
	switch {
	case attrs.GetVerb() != "get":
		return false, "can only get individual resources of this type"
	case attrs.GetSubresource() != "":
		return false, "cannot get subresource"
	}
	return a.related(ctx, name, attrs)
}

// pod decides by the verb; on which Pods a node may write, the Restriction decides.
func (a *Authorizer) pod(ctx context.Context, name string, attrs authorizer.Attributes) (bool, string) {
	switch attrs.GetSubresource() + ":" + attrs.GetVerb() {
	case ":get":
		return a.related(ctx, name, attrs)
	case ":list", ":watch":
		if selectsOwn(name, attrs) {
			return true, ""
		}
		if attrs.GetName() != "" {
			return a.related(ctx, name, attrs)
		}
		return false, "can only list/watch pods with spec.nodeName field selector"
	case ":create", ":delete", "status:update", "status:patch", "eviction:create":
		return true, ""
	}
	return false, ""
}

// selectsOwn reports whether a list or watch is of the node's own Pods.
func selectsOwn(name string, attrs authorizer.Attributes) bool {
	selector, err := attrs.GetFieldSelector()
	return err == nil && slices.ContainsFunc(selector, func(r fields.Requirement) bool {
		return r.Field == "spec.nodeName" && r.Operator == selection.Equals && r.Value == name
	})
}

func node(name string, attrs authorizer.Attributes) (bool, string) {
	switch attrs.GetSubresource() + ":" + attrs.GetVerb() {
	case ":create", ":update", ":patch", "status:update", "status:patch":
		return true, "" // of its own only: the Restriction sees to that
	case ":get", ":list", ":watch":
		switch attrs.GetName() {
		case name:
			return true, ""
		case "":
			return false, fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", name)
		}
		return false, fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", name, attrs.GetName())
	}
	return false, ""
}

func lease(name string, attrs authorizer.Attributes) (bool, string) {
	switch {
	case !slices.Contains([]string{"get", "create", "update", "patch", "delete"}, attrs.GetVerb()):
		return false, "can only get, create, update, patch, or delete a node lease"
	case attrs.GetNamespace() != corev1.NamespaceNodeLease:
		return false, fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	case attrs.GetVerb() != "create" && attrs.GetName() != name: // a create does not name it
		return false, "can only access node lease with the same name as the requesting node"
	}
	return true, ""
}
