package apiserver

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/pki"
)

func TestNobodyComesInUnknown(t *testing.T) {
	c := start(t, t.TempDir())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.pki.Pool()}}}
	defer client.CloseIdleConnections()
	eventually(t, "readyz", func() error {
		_, err := c.client(pki.Admin).Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
	for path, want := range map[string]int{
		"/livez": 200, "/healthz": 200, "/version": 401, "/api/v1/namespaces": 401, "/metrics": 401, "/openapi/v2": 401, "/readyz/etcd": 401,
	} {
		r, err := client.Get(c.server.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s answers %d, want %d", path, r.StatusCode, want)
		}
	}
	req, err := http.NewRequest(http.MethodGet, c.server.URL()+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer nonsense")
	r, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 401 {
		t.Errorf("a bad token at /livez answers %d, want 401", r.StatusCode)
	}
}

func TestRBAC(t *testing.T) {
	c := start(t, t.TempDir())
	admin, bob := c.client(pki.Admin), c.client(pki.Identity{User: "bob", Groups: []string{"dev"}})
	_, err := bob.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
	want := `pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default"`
	if !apierrors.IsForbidden(err) || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
	if _, err := bob.Discovery().ServerVersion(); err != nil {
		t.Errorf("discovery is for all who are known: %v", err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: "default"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects:   []rbacv1.Subject{{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "dev"}},
	}
	if _, err := admin.RbacV1().RoleBindings("default").Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bob may list", func() error {
		_, err := bob.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		return err
	})
	if _, err := bob.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("in another namespace: %v", err)
	}
	missing := binding.DeepCopy()
	missing.Name, missing.RoleRef = "missing", rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "gone"}
	if _, err := admin.RbacV1().RoleBindings("default").Create(ctx, missing, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the missing role is told", func() error {
		_, err := bob.RbacV1().Roles("default").List(ctx, metav1.ListOptions{})
		if err == nil || !strings.Contains(err.Error(), `RBAC: role.rbac.authorization.k8s.io "gone" not found`) {
			return fmt.Errorf("error = %v", err)
		}
		return nil
	})
	review, err := admin.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: "bob", Groups: []string{"dev"}, ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: "default", Verb: "create", Resource: "pods",
		}},
	}, metav1.CreateOptions{})
	if err != nil || !review.Status.Allowed || !strings.Contains(review.Status.Reason, `RoleBinding "dev/default" of ClusterRole "edit" to Group "dev"`) {
		t.Errorf("review = %v, %v", review.Status, err)
	}
	rules, err := bob.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "default"},
	}, metav1.CreateOptions{})
	if err != nil || len(rules.Status.ResourceRules) < 5 {
		t.Errorf("rules = %v, %v", rules, err)
	}
}

func TestNobodyGrantsMoreThanTheyHave(t *testing.T) {
	c := start(t, t.TempDir())
	admin, bob := c.client(pki.Admin), c.client(pki.Identity{User: "bob"})
	if _, err := admin.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "bob"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "bob"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	role := func(name, resource string) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{resource}, Verbs: []string{"delete", "get"}},
		}}
	}
	eventually(t, "bob grants what he has", func() error {
		_, err := bob.RbacV1().Roles("default").Create(ctx, role("pods", "pods"), metav1.CreateOptions{})
		return err
	})
	_, err := bob.RbacV1().Roles("default").Create(ctx, role("nodes", "nodes"), metav1.CreateOptions{})
	want := "is attempting to grant RBAC permissions not currently held:\n" + `{APIGroups:[""], Resources:["nodes"], Verbs:["delete" "get"]}`
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("error = %v, want %s", err, want)
	}
	_, err = bob.RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "all"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "bob"}},
	}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("binding cluster-admin: %v", err)
	}
}

func TestRolesArePutTogether(t *testing.T) {
	c := start(t, t.TempDir())
	admin := c.client(pki.Admin)
	part := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "part", Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"example.com"}, Resources: []string{"things"}, Verbs: []string{"get"}}},
	}
	if _, err := admin.RbacV1().ClusterRoles().Create(ctx, part, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "admin has what view has", func() error {
		r, err := admin.RbacV1().ClusterRoles().Get(ctx, "admin", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, rule := range r.Rules {
			if rule.Resources != nil && rule.Resources[0] == "things" {
				return nil
			}
		}
		return fmt.Errorf("admin has no rule for things")
	})
}

func TestTokens(t *testing.T) {
	c := start(t, t.TempDir())
	admin := c.client(pki.Admin)
	sa, err := admin.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod, err := admin.CoreV1().Pods("default").Create(ctx, webPod("web", ""), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := admin.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: "web", UID: pod.UID,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: c.server.URL(), BearerToken: answer.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAData: c.pki.Bundle()},
	})
	if err != nil {
		t.Fatal(err)
	}
	who, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	info := who.Status.UserInfo
	if info.Username != "system:serviceaccount:default:default" || info.UID != string(sa.UID) ||
		info.Extra["authentication.kubernetes.io/pod-name"][0] != "web" {
		t.Errorf("the token is of %v", info)
	}
	review := func() authenticationv1.TokenReviewStatus {
		t.Helper()
		r, err := admin.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: answer.Status.Token},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	if s := review(); !s.Authenticated || s.User.Username != info.Username || !slices.Contains(s.User.Groups, user.AllAuthenticated) {
		t.Errorf("review = %v", s)
	}
	if err := admin.CoreV1().Pods("default").Delete(ctx, "web", metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token ends with the Pod", func() error {
		if s := review(); s.Authenticated || !strings.Contains(s.Error, "service account token has been invalidated") {
			return fmt.Errorf("review = %v", s)
		}
		return nil
	})
}

func webPod(name, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "web"}},
	}}
}

func TestImpersonation(t *testing.T) {
	c := start(t, t.TempDir())
	cfg := c.as(pki.Admin)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "alice", Groups: []string{"ops"}}
	alice, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	who, err := alice.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || who.Status.UserInfo.Username != "alice" {
		t.Errorf("who = %v, %v", who, err)
	}
	cfg = c.as(pki.Identity{User: "bob"})
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "alice"}
	bob, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = bob.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `User "bob" cannot impersonate`) {
		t.Errorf("bob as alice: %v", err)
	}
}

func TestNodesKeepToTheirOwn(t *testing.T) {
	c := start(t, t.TempDir())
	admin, node := c.client(pki.Admin), c.client(pki.Node("n1"))
	made, err := node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Spec.Taints) != 1 || made.Spec.Taints[0].Key != corev1.TaintNodeNotReady {
		t.Errorf("taints = %v", made.Spec.Taints)
	}
	_, err = node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, metav1.CreateOptions{})
	if want := `nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"`; err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
	for _, name := range []string{"mine", "other"} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"a": "b"}}
		if _, err := admin.CoreV1().Secrets("default").Create(ctx, secret, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := webPod("web", "n1")
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "mine"}}}}
	if _, err := admin.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node reads its Pod's secret", func() error {
		_, err := node.CoreV1().Secrets("default").Get(ctx, "mine", metav1.GetOptions{})
		return err
	})
	_, err = node.CoreV1().Secrets("default").Get(ctx, "other", metav1.GetOptions{})
	if want := "no relationship found between node 'n1' and this object"; !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("error = %v, want %s", err, want)
	}
	if _, err := node.CoreV1().Pods("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("all Pods: %v", err)
	}
	list, err := node.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n1"})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("its own Pods: %v, %v", list, err)
	}
	if _, err := node.CoreV1().Pods("default").Create(ctx, webPod("extra", "n1"), metav1.CreateOptions{}); !apierrors.IsForbidden(err) ||
		!strings.Contains(err.Error(), "can only create mirror pods") {
		t.Errorf("a Pod of its own: %v", err)
	}
}
