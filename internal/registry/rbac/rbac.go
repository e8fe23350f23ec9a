// Package rbac serves the four kinds of rbac.authorization.k8s.io/v1: roles and role bindings, namespaced and
// cluster-wide.
package rbac

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// Kinds returns Role, RoleBinding, ClusterRole and ClusterRoleBinding.
func Kinds() []kit.Kind {
	return []kit.Kind{role(), roleBinding(), clusterRole(), clusterRoleBinding()}
}

func role() kit.Kind {
	return kit.Define(kit.Definition[*rbacv1.Role]{
		GVK:        rbacv1.SchemeGroupVersion.WithKind("Role"),
		Resource:   "roles",
		Singular:   "role",
		Namespaced: true,
		New:        func() *rbacv1.Role { return &rbacv1.Role{} },
		NewList:    func() runtime.Object { return &rbacv1.RoleList{} },

		Validate: func(_ context.Context, r *rbacv1.Role) field.ErrorList { return checkRole(r) },
		ValidateUpdate: func(_ context.Context, r, old *rbacv1.Role) field.ErrorList {
			return validate.InOrder(checkRole(r), validate.MetaUpdate(&r.ObjectMeta, &old.ObjectMeta))
		},
		AllowCreateOnUpdate: true,
	})
}

func clusterRole() kit.Kind {
	return kit.Define(kit.Definition[*rbacv1.ClusterRole]{
		GVK:      rbacv1.SchemeGroupVersion.WithKind("ClusterRole"),
		Resource: "clusterroles",
		Singular: "clusterrole",
		New:      func() *rbacv1.ClusterRole { return &rbacv1.ClusterRole{} },
		NewList:  func() runtime.Object { return &rbacv1.ClusterRoleList{} },

		Validate: func(_ context.Context, r *rbacv1.ClusterRole) field.ErrorList { return checkClusterRole(r, nil) },
		ValidateUpdate: func(_ context.Context, r, old *rbacv1.ClusterRole) field.ErrorList {
			return validate.InOrder(checkClusterRole(r, old), validate.MetaUpdate(&r.ObjectMeta, &old.ObjectMeta))
		},
		AllowCreateOnUpdate: true,
	})
}

func roleBinding() kit.Kind {
	return kit.Define(kit.Definition[*rbacv1.RoleBinding]{
		GVK:        rbacv1.SchemeGroupVersion.WithKind("RoleBinding"),
		Resource:   "rolebindings",
		Singular:   "rolebinding",
		Namespaced: true,
		New:        func() *rbacv1.RoleBinding { return &rbacv1.RoleBinding{} },
		NewList:    func() runtime.Object { return &rbacv1.RoleBindingList{} },

		Default: func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
		Validate: func(_ context.Context, b *rbacv1.RoleBinding) field.ErrorList {
			return checkBinding(validate.Meta(&b.ObjectMeta, true, name), b.RoleRef, nil, b.Subjects, true, "Role", "ClusterRole")
		},
		ValidateUpdate: func(_ context.Context, b, old *rbacv1.RoleBinding) field.ErrorList {
			return checkBinding(updated(&b.ObjectMeta, &old.ObjectMeta, true), b.RoleRef, &old.RoleRef, b.Subjects, true, "Role", "ClusterRole")
		},
		AllowCreateOnUpdate: true,
		Table: bindingTable("roleBinding", rbacv1beta1.RoleBinding{}.SwaggerDoc()["roleRef"], func(b *rbacv1.RoleBinding) binding {
			return binding{b.Name, column.Since(b.CreationTimestamp), b.RoleRef, b.Subjects}
		}),
	})
}

func clusterRoleBinding() kit.Kind {
	return kit.Define(kit.Definition[*rbacv1.ClusterRoleBinding]{
		GVK:      rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"),
		Resource: "clusterrolebindings",
		Singular: "clusterrolebinding",
		New:      func() *rbacv1.ClusterRoleBinding { return &rbacv1.ClusterRoleBinding{} },
		NewList:  func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },

		Default: func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
		Validate: func(_ context.Context, b *rbacv1.ClusterRoleBinding) field.ErrorList {
			return checkBinding(validate.Meta(&b.ObjectMeta, false, name), b.RoleRef, nil, b.Subjects, false, "ClusterRole")
		},
		ValidateUpdate: func(_ context.Context, b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
			return checkBinding(updated(&b.ObjectMeta, &old.ObjectMeta, false), b.RoleRef, &old.RoleRef, b.Subjects, false, "ClusterRole")
		},
		AllowCreateOnUpdate: true,
		Table: bindingTable("clusterRoleBinding", rbacv1beta1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"], func(b *rbacv1.ClusterRoleBinding) binding {
			return binding{b.Name, column.Since(b.CreationTimestamp), b.RoleRef, b.Subjects}
		}),
	})
}

// defaultBinding sets missing API groups of the role, users and groups.
func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i, s := range subjects {
		if s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			subjects[i].APIGroup = rbacv1.GroupName
		}
	}
}
