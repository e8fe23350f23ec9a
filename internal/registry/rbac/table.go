package rbac

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
)

// binding is what the tables of both kinds of bindings show.
type binding struct {
	name, age string
	ref       rbacv1.RoleRef
	subjects  []rbacv1.Subject
}

func bindingTable[T kit.Object](kind, roleDoc string, of func(T) binding) *kit.Table[T] {
	return &kit.Table[T]{
		Columns: []column.Definition{
			column.Name(),
			column.Text("Role", roleDoc),
			column.Age(),
			column.Wide(column.Text("Users", "Users in the "+kind)),
			column.Wide(column.Text("Groups", "Groups in the "+kind)),
			column.Wide(column.Text("ServiceAccounts", "ServiceAccounts in the "+kind)),
		},
		Row: func(obj T) ([]any, []metav1.TableRowCondition) {
			b := of(obj)
			users, groups, accounts := names(b.subjects)
			return []any{b.name, b.ref.Kind + "/" + b.ref.Name, b.age, users, groups, accounts}, nil
		},
	}
}

// names lists the subjects of each kind.
func names(subjects []rbacv1.Subject) (users, groups, accounts string) {
	var u, g, a []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			u = append(u, s.Name)
		case rbacv1.GroupKind:
			g = append(g, s.Name)
		case rbacv1.ServiceAccountKind:
			a = append(a, s.Namespace+"/"+s.Name)
		}
	}
	return strings.Join(u, ", "), strings.Join(g, ", "), strings.Join(a, ", ")
}
