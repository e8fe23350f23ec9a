package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"podium.dev/podium/internal/registry/kit"
)

// Group returns the API group rbac.authorization.k8s.io: roles and their bindings.
func Group() kit.Group {
	return kit.Group{
		Name:     rbacv1.GroupName,
		Priority: 17000,
		Versions: []kit.Version{
			{GroupVersion: rbacv1.SchemeGroupVersion, AddToScheme: rbacv1.AddToScheme},
		},
		Kinds: Kinds(),
	}
}
