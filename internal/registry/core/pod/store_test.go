package pod

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/policy/poddisruptionbudget"
	"podium.dev/podium/internal/store"
)

// stores are the stores of Pods and disruption budgets over an etcd of their own.
type stores struct {
	pods, budgets *genericregistry.Store
	sub           map[string]rest.Storage
	ctx           context.Context
}

// options makes generic stores keep their objects in one etcd.
type options struct {
	transport storagebackend.TransportConfig
	codecs    serializer.CodecFactory
	versions  map[string]schema.GroupVersion
}

func (o options) GetRESTOptions(resource schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	config := storagebackend.NewDefaultConfig("/test", o.codecs.LegacyCodec(o.versions[resource.Resource]))
	config.Transport = o.transport
	return generic.RESTOptions{StorageConfig: config.ForResource(resource), Decorator: generic.UndecoratedStorage, ResourcePrefix: "/" + resource.Resource}, nil
}

func newStores(t *testing.T) *stores {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(genericapirequest.WithNamespace(context.Background(), "n"))
	etcd, err := store.Start(ctx, store.Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	s := &stores{ctx: ctx}
	t.Cleanup(func() {
		for _, store := range []*genericregistry.Store{s.pods, s.budgets} {
			if store != nil {
				store.Destroy()
			}
		}
		cancel()
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	})
	scheme := runtime.NewScheme()
	for gv, add := range map[schema.GroupVersion]func(*runtime.Scheme) error{corev1.SchemeGroupVersion: corev1.AddToScheme, policyv1.SchemeGroupVersion: policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
		scheme.AddKnownTypes(schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal},
			map[string][]runtime.Object{"": {&corev1.Pod{}, &corev1.PodList{}}, "policy": {&policyv1.PodDisruptionBudget{}, &policyv1.PodDisruptionBudgetList{}}}[gv.Group]...)
	}
	o := options{transport: etcd.Transport(), codecs: serializer.NewCodecFactory(scheme), versions: map[string]schema.GroupVersion{
		"pods": corev1.SchemeGroupVersion, "poddisruptionbudgets": policyv1.SchemeGroupVersion,
	}}
	env := kit.Env{Lookup: func(schema.GroupResource) *genericregistry.Store { return s.budgets }}
	if s.pods, s.sub, err = Kind().Storage(env, scheme, o); err != nil {
		t.Fatal(err)
	}
	if s.budgets, _, err = poddisruptionbudget.Kind().Storage(env, scheme, o); err != nil {
		t.Fatal(err)
	}
	return s
}

// make creates a Pod and gives it a status.
func (s *stores) make(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	status := pod.Status
	made := pod.DeepCopy()
	definitionForTest().Default(made)
	out, err := s.pods.Create(s.ctx, made, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made = out.(*corev1.Pod)
	if status.Phase == "" {
		return made
	}
	made.Status = status
	out, _, err = s.sub["pods/status"].(rest.Updater).Update(s.ctx, made.Name, rest.DefaultUpdatedObjectInfo(made),
		rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out.(*corev1.Pod)
}

func (s *stores) get(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	out, err := s.pods.Get(s.ctx, name, &metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out.(*corev1.Pod)
}

func somePod(name string, change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n", Labels: map[string]string{"app": "x"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

func (s *stores) bind(name string, b *corev1.Binding) error {
	b.Name = name
	_, err := s.sub["pods/binding"].(rest.NamedCreater).Create(s.ctx, name, b, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	return err
}

func TestBinding(t *testing.T) {
	s := newStores(t)
	made := s.make(t, somePod("p", func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "old", "b": "kept"} }))
	to := func(node string) *corev1.Binding {
		return &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: node}}
	}
	for _, tc := range []struct {
		name string
		b    *corev1.Binding
		want string
	}{
		{"no target", to(""), "target.name: Required value"},
		{"another target", &corev1.Binding{Target: corev1.ObjectReference{Kind: "Pod", Name: "x"}}, `target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>"`},
		{"another Pod of the name", &corev1.Binding{ObjectMeta: metav1.ObjectMeta{UID: types.UID("other")}, Target: corev1.ObjectReference{Name: "n1"}},
			`Operation cannot be fulfilled on pods "p": StorageError: invalid object, Code: 4, Key: /test/pods/n/p, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: other, UID in object meta: ` + string(made.UID)},
	} {
		if err := s.bind("p", tc.b); err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
	b := to("n1")
	b.Labels, b.Annotations = map[string]string{"zone": "z"}, map[string]string{"a": "new"}
	if err := s.bind("p", b); err != nil {
		t.Fatal(err)
	}
	pod := s.get(t, "p")
	if pod.Spec.NodeName != "n1" || pod.Labels["zone"] != "z" || pod.Labels["app"] != "x" || pod.Annotations["a"] != "new" || pod.Annotations["b"] != "kept" {
		t.Errorf("the Pod is on %q with labels %v and annotations %v", pod.Spec.NodeName, pod.Labels, pod.Annotations)
	}
	if !conditionTrue(&pod.Status, corev1.PodScheduled) {
		t.Errorf("the Pod is not said to be scheduled: %v", pod.Status.Conditions)
	}
	err := s.bind("p", to("n2"))
	if want := `Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"`; !errors.IsConflict(err) || err.Error() != want {
		t.Errorf("bound again: %v, want %s", err, want)
	}
	if err := s.bind("nobody", to("n1")); !errors.IsNotFound(err) {
		t.Errorf("bound nobody: %v", err)
	}
	s.make(t, somePod("held", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "x/y"}} }))
	if err := s.bind("held", to("n1")); !errors.IsConflict(err) {
		t.Errorf("bound a Pod that is held back: %v", err)
	}
}

func (s *stores) evict(name string, options *metav1.DeleteOptions) error {
	e := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name}, DeleteOptions: options}
	_, err := s.sub["pods/eviction"].(rest.NamedCreater).Create(s.ctx, name, e, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	return err
}

// budget makes a disruption budget with a status.
func (s *stores) budget(t *testing.T, status policyv1.PodDisruptionBudgetStatus, policy *policyv1.UnhealthyPodEvictionPolicyType) {
	t.Helper()
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "n"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}, UnhealthyPodEvictionPolicy: policy},
	}
	if _, err := s.budgets.Create(s.ctx, b, rest.ValidateAllObjectFunc, &metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	key, err := s.budgets.KeyFunc(s.ctx, "b")
	if err != nil {
		t.Fatal(err)
	}
	err = s.budgets.Storage.GuaranteedUpdate(s.ctx, key, &policyv1.PodDisruptionBudget{}, false, nil, simple(func(o runtime.Object) {
		o.(*policyv1.PodDisruptionBudget).Status = status
		o.(*policyv1.PodDisruptionBudget).Status.ObservedGeneration = o.(*policyv1.PodDisruptionBudget).Generation
	}), false, nil)
	if err != nil {
		t.Fatal(err)
	}
}

func onNode(phase corev1.PodPhase, ready bool) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.NodeName = "n1"
		p.Status = corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}[ready]}}}
	}
}

func TestEviction(t *testing.T) {
	s := newStores(t)
	s.make(t, somePod("alone", onNode(corev1.PodRunning, true)))
	if err := s.evict("alone", nil); err != nil {
		t.Fatalf("evict without a budget: %v", err)
	}
	pod := s.get(t, "alone")
	if pod.DeletionTimestamp == nil || ptr.Deref(pod.DeletionGracePeriodSeconds, 0) != 30 || !conditionTrue(&pod.Status, corev1.DisruptionTarget) {
		t.Errorf("the evicted Pod: deleted %v, grace %v, conditions %v", pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds, pod.Status.Conditions)
	}

	s.budget(t, policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1, CurrentHealthy: 2, DesiredHealthy: 1}, nil)
	s.make(t, somePod("first", onNode(corev1.PodRunning, true)))
	s.make(t, somePod("second", onNode(corev1.PodRunning, true)))
	s.make(t, somePod("unready", onNode(corev1.PodRunning, false)))
	s.make(t, somePod("waiting", nil))
	s.make(t, somePod("done", onNode(corev1.PodSucceeded, false)))
	if err := s.evict("first", &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("evict on trial: %v", err)
	}
	if err := s.evict("first", &metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](5)}); err != nil {
		t.Errorf("evict with one disruption allowed: %v", err)
	}
	err := s.evict("second", nil)
	if !errors.IsTooManyRequests(err) {
		t.Errorf("evict with no disruption allowed: %v", err)
	}
	for _, name := range []string{"unready", "waiting", "done"} {
		if err := s.evict(name, nil); err != nil {
			t.Errorf("evict %s, which the budget does not guard: %v", name, err)
		}
	}
	for _, name := range []string{"waiting", "done"} {
		if _, err := s.pods.Get(s.ctx, name, &metav1.GetOptions{}); !errors.IsNotFound(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if err := s.evict("second", &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: ptr.To("1")}}); !errors.IsTooManyRequests(err) {
		t.Errorf("evict another version: %v", err)
	}
	if err := s.evict("nobody", nil); !errors.IsNotFound(err) {
		t.Errorf("evict nobody: %v", err)
	}
}

func TestDeleteGivesTime(t *testing.T) {
	s := newStores(t)
	s.make(t, somePod("runs", onNode(corev1.PodRunning, true)))
	out, gone, err := s.pods.Delete(s.ctx, "runs", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	if err != nil || gone {
		t.Fatalf("delete a running Pod: gone at once %v, %v", gone, err)
	}
	pod := out.(*corev1.Pod)
	if left := time.Until(pod.DeletionTimestamp.Time); *pod.DeletionGracePeriodSeconds != 30 || left > 31*time.Second || left < 20*time.Second {
		t.Errorf("it has %v, says %d s", left, *pod.DeletionGracePeriodSeconds)
	}
	// A second, shorter deletion takes the place of the first; the node ends with one of no time.
	out, gone, err = s.pods.Delete(s.ctx, "runs", rest.ValidateAllObjectFunc, metav1.NewDeleteOptions(5))
	if err != nil || gone || *out.(*corev1.Pod).DeletionGracePeriodSeconds != 5 {
		t.Errorf("delete sooner: gone %v, %v", gone, err)
	}
	out, gone, err = s.pods.Delete(s.ctx, "runs", rest.ValidateAllObjectFunc, metav1.NewDeleteOptions(0))
	if err != nil || !gone {
		t.Errorf("delete at once: gone %v, %v", gone, err)
	}
	if _, isPod := out.(*corev1.Pod); !isPod {
		t.Errorf("a deletion returns the Pod, not with a %T", out)
	}
}

// simple makes a change of an object an update of it.
func simple(change func(runtime.Object)) storage.UpdateFunc {
	return storage.SimpleUpdate(func(o runtime.Object) (runtime.Object, error) {
		change(o)
		return o, nil
	})
}
