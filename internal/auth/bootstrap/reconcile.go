package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/component-helpers/auth/rbac/validation"

	"podium.dev/podium/internal/apiserver/local"
)

// writers is how many objects are written at a time; etcd takes them to disk together.
const writers = 16

// tries is how often an object is written to a store that does not answer in its time (7 s for etcd), as it happens
// with all of them at once on a machine that is slow or busy.
const tries = 5

func labelSet(m map[string]string) labels.Set { return m }

func equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

// object is what the four kinds are.
type object interface {
	runtime.Object
	metav1.Object
}

// Reconcile writes what is missing of the policy: objects, and in those that are there rules, subjects,
// labels and annotations. What users have added stays; objects with the annotation
// rbac.authorization.kubernetes.io/autoupdate set to "false" are left alone.
func (p *Policy) Reconcile(ctx context.Context, stores local.Stores) error {
	var jobs []func() error
	jobs = append(jobs, ensureAll(ctx, stores, "clusterroles", p.ClusterRoles, mendClusterRole)...)
	jobs = append(jobs, ensureAll(ctx, stores, "clusterrolebindings", p.ClusterRoleBindings, mendClusterRoleBinding)...)
	jobs = append(jobs, ensureAll(ctx, stores, "roles", p.Roles, mendRole)...)
	jobs = append(jobs, ensureAll(ctx, stores, "rolebindings", p.RoleBindings, mendRoleBinding)...)

	var mu sync.Mutex
	var faults []error
	var wg sync.WaitGroup
	next := make(chan func() error)
	for range writers {
		wg.Go(func() {
			for job := range next {
				if err := job(); err != nil {
					mu.Lock()
					faults = append(faults, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, job := range jobs {
		next <- job
	}
	close(next)
	wg.Wait()
	return errors.Join(faults...)
}

func ensureAll[T object](ctx context.Context, stores local.Stores, resource string, all []T, mend func(have, want T) bool) (jobs []func() error) {
	for _, want := range all {
		jobs = append(jobs, func() error { return ensure(ctx, stores, resource, want, mend) })
	}
	return jobs
}

// ensure creates an object, or mends the one that is there: mend changes have and says whether it did.
func ensure[T object](ctx context.Context, stores local.Stores, name string, want T, mend func(have, want T) bool) error {
	resource := schema.GroupResource{Group: rbacv1.GroupName, Resource: name}
	store := stores(resource)
	if store == nil {
		return fmt.Errorf("%s is not served", resource)
	}
	ctx = local.Context(ctx, want.GetNamespace())
	get := local.Get[T]
	for try := 1; ; try++ {
		have, err := get(ctx, stores, resource, want.GetNamespace(), want.GetName())
		switch {
		case apierrors.IsNotFound(err):
			_, err = store.Create(ctx, want.DeepCopyObject(), rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		case err == nil && have.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] != "false" && mend(have, want):
			_, _, err = store.Update(ctx, have.GetName(), rest.DefaultUpdatedObjectInfo(have), rest.ValidateAllObjectFunc,
				rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
		}
		if ctx.Err() == nil && (apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err)) {
			get = local.GetCurrent[T] // somebody else was faster, and the cache does not know yet
			continue
		}
		if ctx.Err() == nil && try < tries && unavailable(err) {
			get = local.GetCurrent[T] // the write may have been carried out
			continue
		}
		if err != nil {
			return fmt.Errorf("write %s %s: %w", name, want.GetName(), err)
		}
		return nil
	}
}

// unavailable says whether the store has not answered in its time or has no leader just now: errors of etcd have a code.
func unavailable(err error) bool {
	var of interface{ Code() codes.Code }
	return errors.As(err, &of) && of.Code() == codes.Unavailable
}

func mendClusterRole(have, want *rbacv1.ClusterRole) bool {
	changed := mendMeta(have, want)
	if want.AggregationRule == nil {
		return mendRules(&have.Rules, want.Rules) || changed
	}
	// Rules that are put together are the aggregation's.
	if have.AggregationRule == nil {
		have.AggregationRule = want.AggregationRule
		return true
	}
	for _, s := range want.AggregationRule.ClusterRoleSelectors {
		if !slices.ContainsFunc(have.AggregationRule.ClusterRoleSelectors, func(h metav1.LabelSelector) bool { return equal(h, s) }) {
			have.AggregationRule.ClusterRoleSelectors = append(have.AggregationRule.ClusterRoleSelectors, s)
			changed = true
		}
	}
	return changed
}

func mendRole(have, want *rbacv1.Role) bool {
	changed := mendMeta(have, want)
	return mendRules(&have.Rules, want.Rules) || changed
}

func mendClusterRoleBinding(have, want *rbacv1.ClusterRoleBinding) bool {
	changed := mendMeta(have, want)
	return mendSubjects(&have.Subjects, want.Subjects) || changed
}

func mendRoleBinding(have, want *rbacv1.RoleBinding) bool {
	changed := mendMeta(have, want)
	return mendSubjects(&have.Subjects, want.Subjects) || changed
}

func mendRules(have *[]rbacv1.PolicyRule, want []rbacv1.PolicyRule) bool {
	covered, missing := validation.Covers(*have, want)
	if !covered {
		*have = append(*have, missing...)
	}
	return !covered
}

func mendSubjects(have *[]rbacv1.Subject, want []rbacv1.Subject) (changed bool) {
	for _, s := range want {
		if !slices.Contains(*have, s) {
			*have = append(*have, s)
			changed = true
		}
	}
	return changed
}

// mendMeta adds labels and annotations that are missing; those that are there stay as they are.
func mendMeta(have, want metav1.Object) bool {
	l, a := merge(have.GetLabels(), want.GetLabels()), merge(have.GetAnnotations(), want.GetAnnotations())
	changed := !maps.Equal(l, have.GetLabels()) || !maps.Equal(a, have.GetAnnotations())
	have.SetLabels(l)
	have.SetAnnotations(a)
	return changed
}

func merge(have, want map[string]string) map[string]string {
	out := maps.Clone(want)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, have)
	return out
}
