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

	"podium.dev/podium/internal/apistore"
)

// writers is the number of concurrent writes; etcd syncs them to disk together.
const writers = 16

// tries is how often the write of an object is attempted if the store times out (7 s for etcd), as happens to
// all writes at once on a slow or busy machine.
const tries = 5

func labelSet(m map[string]string) labels.Set { return m }

func equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

// object is implemented by the four kinds.
type object interface {
	runtime.Object
	metav1.Object
}

// Reconcile writes what is missing: objects, and rules, subjects, labels and annotations of existing objects.
// What users have added stays. Objects with the annotation rbac.authorization.kubernetes.io/autoupdate set to
// "false" are not changed.
func (p *Policy) Reconcile(ctx context.Context, stores apistore.Stores) error {
	var jobs []func() error
	jobs = append(jobs, ensureAll(ctx, stores, "clusterroles", p.ClusterRoles, completeClusterRole)...)
	jobs = append(jobs, ensureAll(ctx, stores, "clusterrolebindings", p.ClusterRoleBindings, completeClusterRoleBinding)...)
	jobs = append(jobs, ensureAll(ctx, stores, "roles", p.Roles, completeRole)...)
	jobs = append(jobs, ensureAll(ctx, stores, "rolebindings", p.RoleBindings, completeRoleBinding)...)

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

func ensureAll[T object](ctx context.Context, stores apistore.Stores, resource string, all []T, complete func(have, want T) bool) (jobs []func() error) {
	for _, want := range all {
		jobs = append(jobs, func() error { return ensure(ctx, stores, resource, want, complete) })
	}
	return jobs
}

// ensure creates an object or completes the existing one: complete changes have and reports whether it did.
func ensure[T object](ctx context.Context, stores apistore.Stores, name string, want T, complete func(have, want T) bool) error {
	resource := schema.GroupResource{Group: rbacv1.GroupName, Resource: name}
	store := stores(resource)
	if store == nil {
		return fmt.Errorf("%s is not served", resource)
	}
	ctx = apistore.Context(ctx, want.GetNamespace())
	get := apistore.Get[T]
	for try := 1; ; try++ {
		have, err := get(ctx, stores, resource, want.GetNamespace(), want.GetName())
		switch {
		case apierrors.IsNotFound(err):
			_, err = store.Create(ctx, want.DeepCopyObject(), rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		case err == nil && have.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] != "false" && complete(have, want):
			_, _, err = store.Update(ctx, have.GetName(), rest.DefaultUpdatedObjectInfo(have), rest.ValidateAllObjectFunc,
				rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
		}
		if ctx.Err() == nil && (apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err)) {
			get = apistore.GetCurrent[T] // created concurrently, and the cache does not know yet
			continue
		}
		if ctx.Err() == nil && try < tries && unavailable(err) {
			get = apistore.GetCurrent[T] // the write may have succeeded
			continue
		}
		if err != nil {
			return fmt.Errorf("write %s %s: %w", name, want.GetName(), err)
		}
		return nil
	}
}

// unavailable reports whether the store timed out or has no leader at present. Errors of etcd have a gRPC code.
func unavailable(err error) bool {
	var of interface{ Code() codes.Code }
	return errors.As(err, &of) && of.Code() == codes.Unavailable
}

func completeClusterRole(have, want *rbacv1.ClusterRole) bool {
	changed := completeMeta(have, want)
	if want.AggregationRule == nil {
		return completeRules(&have.Rules, want.Rules) || changed
	}
	// The aggregation sets the rules of aggregated roles.
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

func completeRole(have, want *rbacv1.Role) bool {
	changed := completeMeta(have, want)
	return completeRules(&have.Rules, want.Rules) || changed
}

func completeClusterRoleBinding(have, want *rbacv1.ClusterRoleBinding) bool {
	changed := completeMeta(have, want)
	return completeSubjects(&have.Subjects, want.Subjects) || changed
}

func completeRoleBinding(have, want *rbacv1.RoleBinding) bool {
	changed := completeMeta(have, want)
	return completeSubjects(&have.Subjects, want.Subjects) || changed
}

func completeRules(have *[]rbacv1.PolicyRule, want []rbacv1.PolicyRule) bool {
	covered, missing := validation.Covers(*have, want)
	if !covered {
		*have = append(*have, missing...)
	}
	return !covered
}

func completeSubjects(have *[]rbacv1.Subject, want []rbacv1.Subject) (changed bool) {
	for _, s := range want {
		if !slices.Contains(*have, s) {
			*have = append(*have, s)
			changed = true
		}
	}
	return changed
}

// completeMeta adds missing labels and annotations. Existing ones are kept.
func completeMeta(have, want metav1.Object) bool {
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
