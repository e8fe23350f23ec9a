package bootstrap

import (
	"context"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/klog/v2"

	"podium.dev/podium/internal/apistore"
)

// RunAggregation updates the rules of aggregated cluster roles each time that changed yields, until ctx ends. A
// failed write is repeated at the next change; a conflict means that there is one.
func RunAggregation(ctx context.Context, stores apistore.Stores, changed <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			if err := aggregateStored(ctx, stores); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) {
				klog.FromContext(ctx).Error(err, "Failed to aggregate cluster roles")
			}
		}
	}
}

func aggregateStored(ctx context.Context, stores apistore.Stores) error {
	resource := schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterroles"}
	all, err := apistore.ListCurrent[*rbacv1.ClusterRole](ctx, stores, resource, "")
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range all {
		rules, ok := Aggregate(r, all)
		if !ok || equal(rules, r.Rules) {
			continue
		}
		set := rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
			role := old.DeepCopyObject().(*rbacv1.ClusterRole)
			role.ResourceVersion, role.Rules = r.ResourceVersion, rules
			return role, nil
		})
		if _, _, err := stores(resource).Update(apistore.Context(ctx, ""), r.Name, set, rest.ValidateAllObjectFunc,
			rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
