package object

import (
	"context"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"
)

const waiting = 10 * time.Second

func newPod(name string, spec v1.PodSpec) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID("uid-" + name)}, Spec: spec}
}

func withSecret(name, secret string) *v1.Pod {
	return newPod(name, v1.PodSpec{Volumes: []v1.Volume{{
		Name: "v", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: secret}},
	}}})
}

func secret(name, value, version string) *v1.Secret {
	return &v1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "u", ResourceVersion: version},
		Data:       map[string][]byte{"k": []byte(value)},
	}
}

// newTestStore makes a Store whose watches begin from what the client holds.
func newTestStore(t *testing.T, objects ...runtime.Object) (*Store, *fake.Clientset, <-chan string) {
	t.Helper()
	client := fake.NewClientset(objects...)
	s := NewStore(Config{Client: client})
	ctx, cancel := context.WithCancel(context.Background())
	go s.Run(ctx)
	t.Cleanup(cancel)
	news := make(chan string, 100)
	s.OnChange(func(kind, namespace, name string) { news <- kind + "/" + namespace + "/" + name })
	return s, client, news
}

func expect(t *testing.T, news <-chan string, want string) {
	t.Helper()
	timeout := time.After(waiting)
	for {
		select {
		case got := <-news:
			if got == want {
				return
			}
		case <-timeout:
			t.Fatalf("no news of %s", want)
		}
	}
}

func TestSecretIsWatched(t *testing.T) {
	s, client, news := newTestStore(t, secret("a", "1", "1"))
	ctx := context.Background()
	if _, err := s.Secret(ctx, newPod("x", v1.PodSpec{}), "a"); err == nil || err.Error() != `object "ns"/"a" not registered` {
		t.Fatalf("unregistered: %v", err)
	}
	s.Register(withSecret("p", "a"))
	got, err := s.Secret(ctx, newPod("x", v1.PodSpec{}), "a")
	if err != nil || string(got.Data["k"]) != "1" {
		t.Fatalf("got %v, %v", got, err)
	}
	expect(t, news, "Secret/ns/a")
	awaitWatches(t, client, 2)
	if _, err := client.CoreV1().Secrets("ns").Update(ctx, secret("a", "2", "2"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, news, "Secret/ns/a")
	if got, _ := s.Secret(ctx, newPod("x", v1.PodSpec{}), "a"); string(got.Data["k"]) != "2" {
		t.Errorf("after the update: %s", got.Data["k"])
	}
	if err := client.CoreV1().Secrets("ns").Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, news, "Secret/ns/a")
	_, err = s.Secret(ctx, newPod("x", v1.PodSpec{}), "a")
	if !apierrors.IsNotFound(err) || err.Error() != `secret "a" not found` {
		t.Errorf("after the deletion: %v", err)
	}
}

// awaitWatches waits until the client has so many watches: what is changed before a watch begins is not seen
// by it, as the fake client has no versions to begin from.
func awaitWatches(t *testing.T, client *fake.Clientset, n int) {
	t.Helper()
	await(t, "watches", func() bool { return countActions(client, "watch") >= n })
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waiting); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %v", what, waiting)
		}
		<-time.After(time.Millisecond)
	}
}

func countActions(client *fake.Clientset, verb string) (n int) {
	for _, a := range client.Actions() {
		if a.GetVerb() == verb {
			n++
		}
	}
	return n
}

func TestWatchIsSharedAndEnds(t *testing.T) {
	s, _, _ := newTestStore(t, secret("a", "1", "1"))
	one, two := withSecret("one", "a"), withSecret("two", "a")
	s.Register(one)
	s.Register(two)
	s.Register(two)
	if got := len(s.scopes); got != 2 { // the secret and the API server's Service
		t.Fatalf("%d watches", got)
	}
	if got := len(s.Users(KindSecret, "ns", "a")); got != 2 {
		t.Errorf("%d users", got)
	}
	s.Unregister(one.UID)
	if _, err := s.Secret(context.Background(), newPod("x", v1.PodSpec{}), "a"); err != nil {
		t.Errorf("the second Pod lost its secret: %v", err)
	}
	s.Unregister(two.UID)
	s.Unregister(two.UID)
	if len(s.scopes) != 0 || len(s.pods) != 0 {
		t.Errorf("%d watches and %d pods are left", len(s.scopes), len(s.pods))
	}
}

func TestRegisterAgainFollowsTheSpec(t *testing.T) {
	s, _, _ := newTestStore(t)
	s.Register(withSecret("p", "a"))
	s.Register(withSecret("p", "b"))
	if len(s.Users(KindSecret, "ns", "a")) != 0 || len(s.Users(KindSecret, "ns", "b")) != 1 {
		t.Error("the registration does not follow the spec")
	}
}

func TestImmutableIsReadOnce(t *testing.T) {
	fixed := secret("a", "1", "1")
	yes := true
	fixed.Immutable = &yes
	s, client, _ := newTestStore(t, fixed)
	s.Register(withSecret("p", "a"))
	if _, err := s.Secret(context.Background(), newPod("x", v1.PodSpec{}), "a"); err != nil {
		t.Fatal(err)
	}
	k := key{kind: KindSecret, namespace: "ns", name: "a"}
	await(t, "end of the watch", func() bool {
		s.scopes[k].mu.Lock()
		defer s.scopes[k].mu.Unlock()
		return !s.scopes[k].running
	})
	for _, a := range client.Actions() {
		if a.GetVerb() == "watch" && a.GetResource().Resource == "secrets" {
			t.Error("an immutable object is watched")
		}
	}
}

func TestServices(t *testing.T) {
	service := func(ns, name string) *v1.Service {
		return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: v1.ServiceSpec{ClusterIP: "10.0.0.1"}}
	}
	s, _, _ := newTestStore(t, service("default", "kubernetes"), service("default", "other"), service("ns", "own"))
	yes := true
	s.Register(newPod("links", v1.PodSpec{EnableServiceLinks: &yes}))
	for _, tc := range []struct {
		links bool
		want  int
	}{{true, 2}, {false, 1}} {
		got, err := s.Services(context.Background(), "ns", tc.links)
		if err != nil || len(got) != tc.want {
			t.Errorf("links %v: %d services, %v", tc.links, len(got), err)
		}
	}
}

func TestRefusalIsAnswered(t *testing.T) {
	s, client, _ := newTestStore(t)
	client.PrependReactor("list", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "a", nil)
	})
	s.Register(withSecret("p", "a"))
	_, err := s.Secret(context.Background(), newPod("x", v1.PodSpec{}), "a")
	if !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
}

func TestUnsyncedSaysWhy(t *testing.T) {
	s, client, _ := newTestStore(t)
	client.PrependReactor("list", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, context.DeadlineExceeded
	})
	s.Register(withSecret("p", "a"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.Secret(ctx, newPod("x", v1.PodSpec{}), "a")
	if err == nil {
		t.Fatal("no error")
	}
}

func TestWithoutClient(t *testing.T) {
	s := NewStore(Config{})
	pod := withSecret("p", "a")
	s.Register(pod)
	if list, err := s.Services(context.Background(), "ns", true); err != nil || list != nil {
		t.Errorf("services: %v, %v", list, err)
	}
	if _, err := s.ConfigMap(context.Background(), newPod("x", v1.PodSpec{}), "a"); err == nil || err.Error() != "couldn't get configmap ns/a, no kubeClient defined" {
		t.Errorf("configmap: %v", err)
	}
	s.Unregister(pod.UID)
}

func TestToken(t *testing.T) {
	start := time.Now()
	clk := clocktesting.NewFakeClock(start)
	client := fake.NewClientset()
	fetches, fail := 0, false
	client.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if fail {
			return true, nil, apierrors.NewInternalError(context.DeadlineExceeded)
		}
		fetches++
		r := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenRequest).DeepCopy()
		if ref := r.Spec.BoundObjectRef; ref == nil || ref.UID != "uid-p" || ref.Kind != "Pod" {
			t.Errorf("the token is bound to %v", ref)
		}
		r.Status.Token = "t"
		r.Status.ExpirationTimestamp = metav1.NewTime(clk.Now().Add(time.Hour))
		return true, r, nil
	})
	s := NewStore(Config{Client: client, Clock: clk})
	pod, hour := newPod("p", v1.PodSpec{ServiceAccountName: "default"}), int64(3600)
	src := &v1.ServiceAccountTokenProjection{ExpirationSeconds: &hour}
	ask := func(wantFetches int) Token {
		t.Helper()
		token, err := s.Token(context.Background(), pod, src)
		if err != nil || token.Value != "t" || fetches != wantFetches {
			t.Fatalf("%v, %v after %d fetches, want %d", token, err, fetches, wantFetches)
		}
		return token
	}
	first := ask(1)
	ask(1)
	if due := first.RefreshAt.Sub(start); due > 48*time.Minute || due < 48*time.Minute-spread {
		t.Errorf("due after %v", due)
	}
	clk.SetTime(start.Add(48 * time.Minute))
	ask(2)
	fail = true
	clk.SetTime(start.Add(48*time.Minute + 50*time.Minute))
	ask(2) // the old one lives on
	clk.SetTime(start.Add(48*time.Minute + 61*time.Minute))
	if _, err := s.Token(context.Background(), pod, src); err == nil {
		t.Error("an expired token was given")
	}
	s.Unregister(pod.UID)
	if len(s.tokens.entries) != 0 {
		t.Error("a token is left")
	}
}

func TestRefreshAtIsAtMostADay(t *testing.T) {
	now, year := time.Now(), int64(365*24*3600)
	r := &authenticationv1.TokenRequest{
		Spec:   authenticationv1.TokenRequestSpec{ExpirationSeconds: &year},
		Status: authenticationv1.TokenRequestStatus{ExpirationTimestamp: metav1.NewTime(now.Add(365 * 24 * time.Hour))},
	}
	if got := refreshAt(r, now, 0).Sub(now); got != oldest {
		t.Errorf("due after %v", got)
	}
}

// What stands in the folder of static Pods is theirs, and no one else's; what the API has of that name is not.
func TestLocalObjects(t *testing.T) {
	s, _, news := newTestStore(t, secret("a", "of the API", "1"))
	api, static := withSecret("api", "a"), withSecret("static", "a")
	static.Annotations = map[string]string{"kubernetes.io/config.source": "file"}
	s.Register(api)
	s.Register(static)
	ctx := context.Background()
	if _, err := s.Secret(ctx, static, "a"); !apierrors.IsNotFound(err) {
		t.Errorf("before there is one: %v", err)
	}
	s.SetLocal([]runtime.Object{secret("a", "of the folder", "")})
	expect(t, news, "Secret/ns/a")
	for pod, want := range map[*v1.Pod]string{api: "of the API", static: "of the folder"} {
		if got, err := s.Secret(ctx, pod, "a"); err != nil || string(got.Data["k"]) != want {
			t.Errorf("%s reads %v, %v", pod.Name, got, err)
		}
	}
	if users := s.Users(KindSecret, "ns", "a"); len(users) != 2 {
		t.Errorf("the users are %v", users)
	}
	for len(news) > 0 {
		<-news
	}
	s.SetLocal([]runtime.Object{secret("a", "of the folder", "")})
	if len(news) > 0 {
		t.Errorf("told of no change: %s", <-news)
	}
	s.SetLocal(nil)
	if len(news) > 0 {
		t.Errorf("told of an object that went: %s", <-news)
	}
	if _, err := s.Secret(ctx, static, "a"); !apierrors.IsNotFound(err) {
		t.Errorf("after it went: %v", err)
	}

	alone := NewStore(Config{})
	alone.Register(static)
	alone.SetLocal([]runtime.Object{secret("a", "alone", "")})
	if got, err := alone.Secret(ctx, static, "a"); err != nil || string(got.Data["k"]) != "alone" {
		t.Errorf("without an API: %v, %v", got, err)
	}
}
