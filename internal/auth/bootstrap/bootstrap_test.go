package bootstrap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	rbacv1 "k8s.io/api/rbac/v1"
)

func TestDefaultPolicy(t *testing.T) {
	p, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]*rbacv1.ClusterRole{}
	for _, r := range p.ClusterRoles {
		if names[r.Name] != nil {
			t.Errorf("cluster role %s is there twice", r.Name)
		}
		names[r.Name] = r
	}
	for _, want := range []string{"cluster-admin", "admin", "edit", "view", "system:discovery", "system:basic-user",
		"system:public-info-viewer", "system:node", "system:kube-scheduler", "system:kube-controller-manager"} {
		if names[want] == nil || len(names[want].Rules) == 0 {
			t.Errorf("cluster role %s is missing or has no rules", want)
		}
	}
	for _, b := range p.ClusterRoleBindings {
		if names[b.RoleRef.Name] == nil {
			t.Errorf("binding %s is to %s, which is not there", b.Name, b.RoleRef.Name)
		}
	}
	for _, b := range p.RoleBindings {
		if !slices.ContainsFunc(p.Roles, func(r *rbacv1.Role) bool {
			return r.Namespace == b.Namespace && r.Name == b.RoleRef.Name
		}) {
			t.Errorf("binding %s/%s is to %s, which is not there", b.Namespace, b.Name, b.RoleRef.Name)
		}
	}
	logs := func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "pods/log") }
	if !slices.ContainsFunc(names["admin"].Rules, logs) {
		t.Error("admin does not have what view has")
	}
}

// Every control loop uses the same identity, so the rights of all of them must be bound to it.
func TestControllersMayAct(t *testing.T) {
	p, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	bound := map[string]bool{}
	for _, b := range p.ClusterRoleBindings {
		for _, s := range b.Subjects {
			if s.Kind == rbacv1.UserKind && s.Name == "system:kube-controller-manager" {
				bound[b.RoleRef.Name] = true
			}
		}
	}
	for _, r := range p.ClusterRoles {
		if strings.HasPrefix(r.Name, "system:controller:") && !bound[r.Name] {
			t.Errorf("cluster role %s is not bound to the controllers' identity", r.Name)
		}
	}
	for _, loop := range []string{"clusterrole-aggregation-controller", "cronjob-controller", "daemon-set-controller", "deployment-controller", "disruption-controller", "endpoint-controller", "endpointslice-controller", "endpointslicemirroring-controller", "service-cidrs-controller", "service-controller",
		"generic-garbage-collector", "horizontal-pod-autoscaler", "job-controller", "namespace-controller", "node-controller", "pod-garbage-collector", "replicaset-controller",
		"replication-controller", "resourcequota-controller", "root-ca-cert-publisher", "service-account-controller", "statefulset-controller", "ttl-after-finished-controller"} {
		if !bound["system:controller:"+loop] {
			t.Errorf("the %s may not act: there is no role system:controller:%[1]s for it", loop)
		}
	}
}

func TestParseSaysWhere(t *testing.T) {
	for text, want := range map[string]string{
		"\tcore pods: get":           "line 1",
		"clusterrole x\n\tcore pods": "line 2",
		"thing x":                    "a kind, a name and a role",
		"thing x y":                  "unknown kind",
		"clusterrole x odd":          "is not into: or from:",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse(%q) = %v, want an error with %q", text, err, want)
		}
	}
}

func TestMendKeepsWhatUsersAdded(t *testing.T) {
	rule := func(resource string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, Verbs: []string{"get"}}
	}
	want := &rbacv1.Role{ObjectMeta: defaultMeta("r"), Rules: []rbacv1.PolicyRule{rule("pods")}}
	have := want.DeepCopy()
	have.Rules = []rbacv1.PolicyRule{rule("secrets")}
	have.Labels["mine"] = "yes"
	if !completeRole(have, want) || len(have.Rules) != 2 || have.Labels["mine"] != "yes" {
		t.Errorf("updated to %v", have)
	}
	if completeRole(have, want) {
		t.Error("a complete object was updated")
	}
}

func TestUnavailable(t *testing.T) {
	for _, err := range []error{rpctypes.ErrTimeout, rpctypes.ErrNoLeader, fmt.Errorf("write x: %w", rpctypes.ErrTimeout)} {
		if !unavailable(err) {
			t.Errorf("%v: not tried again", err)
		}
	}
	for _, err := range []error{nil, errors.New("etcdserver: request timed out"), rpctypes.ErrNoSpace} {
		if unavailable(err) {
			t.Errorf("%v: tried again", err)
		}
	}
}
