package controller_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"podium.dev/podium/internal/controller"
	"podium.dev/podium/internal/controller/nodelifecycle"
	"podium.dev/podium/internal/scheduler/apitest"
)

func TestMain(m *testing.M) { apitest.Main(m) }

const caText = "-----BEGIN CERTIFICATE-----\nfor the test\n-----END CERTIFICATE-----\n"

// cluster runs all controllers against the API server until the test ends.
func cluster(t *testing.T, nodes nodelifecycle.Config) (context.Context, kubernetes.Interface) {
	t.Helper()
	cfg := apitest.Config(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- controller.Run(ctx, controller.Config{REST: cfg, CA: []byte(caText), Nodes: nodes, GarbageDelay: -1, LoadBalancer: true})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, client
}

// eventually waits until check returns nil.
func eventually(t *testing.T, within time.Duration, check func() error) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > within {
			t.Fatalf("not within %v: %v", within, err)
		}
		<-tick.C
	}
}

func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("still there (%v)", err)
}

// makeNamespace creates a namespace and waits for the objects that every namespace gets.
func makeNamespace(t *testing.T, ctx context.Context, client kubernetes.Interface) string {
	t.Helper()
	ns, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "ctl-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{})
	})
	took := eventually(t, 10*time.Second, func() error {
		if _, err := client.CoreV1().ServiceAccounts(ns.Name).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		_, err := client.CoreV1().ConfigMaps(ns.Name).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
	t.Logf("namespace furnished after %v", took)
	return ns.Name
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "x"}},
		Spec:       corev1.PodSpec{SchedulerName: "nobody", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func create(t *testing.T, ctx context.Context, client kubernetes.Interface, ns string, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	out, err := client.CoreV1().Pods(ns).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func onNode(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = name } }

func owner(cm *corev1.ConfigMap, blocks bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: cm.Name, UID: cm.UID, BlockOwnerDeletion: &blocks}
}

func configMap(t *testing.T, ctx context.Context, client kubernetes.Interface, ns, name string, refs ...metav1.OwnerReference) *corev1.ConfigMap {
	t.Helper()
	cm, err := client.CoreV1().ConfigMaps(ns).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: refs}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cm
}

func TestNamespaceIsEmptiedPodsFirst(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	configMap(t, ctx, client, ns, "data")
	held := create(t, ctx, client, ns, pod("held", func(p *corev1.Pod) { p.Finalizers = []string{"test.dev/hold"} }))
	if err := client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() error {
		p, err := client.CoreV1().Pods(ns).Get(ctx, held.Name, metav1.GetOptions{})
		if err == nil && p.DeletionTimestamp == nil {
			err = fmt.Errorf("not being deleted")
		}
		return err
	})
	if _, err := client.CoreV1().ConfigMaps(ns).Get(ctx, "data", metav1.GetOptions{}); err != nil {
		t.Fatalf("the ConfigMap must outlive the Pods: %v", err)
	}
	patch := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := client.CoreV1().Pods(ns).Patch(ctx, held.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, 10*time.Second, func() error {
		_, err := client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		return gone(err)
	})
	t.Logf("namespace gone %v after its last Pod", took)
}

func TestNamespaceReportsWhatIsLeft(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	cm := configMap(t, ctx, client, ns, "held")
	hold := []byte(`{"metadata":{"finalizers":["test.dev/hold"]}}`)
	if _, err := client.CoreV1().ConfigMaps(ns).Patch(ctx, cm.Name, types.MergePatchType, hold, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	want := "Some content in the namespace has finalizers remaining: test.dev/hold in 1 resource instances"
	eventually(t, 5*time.Second, func() error {
		got, err := client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(got.Status.Conditions, func(c corev1.NamespaceCondition) bool {
			return c.Type == corev1.NamespaceFinalizersRemaining && c.Status == corev1.ConditionTrue
		})
		if i < 0 || got.Status.Conditions[i].Message != want {
			return fmt.Errorf("conditions %v", got.Status.Conditions)
		}
		return nil
	})
	if _, err := client.CoreV1().ConfigMaps(ns).Patch(ctx, cm.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, 10*time.Second, func() error {
		_, err := client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		return gone(err)
	})
	t.Logf("namespace gone %v after the finalizer", took)
}

func TestGarbage(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	maps := client.CoreV1().ConfigMaps(ns)
	remove := func(name string, policy metav1.DeletionPropagation) {
		t.Helper()
		if err := maps.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
			t.Fatal(err)
		}
	}
	isGone := func(name string) {
		t.Helper()
		took := eventually(t, 10*time.Second, func() error {
			_, err := maps.Get(ctx, name, metav1.GetOptions{})
			return gone(err)
		})
		t.Logf("%s gone after %v", name, took)
	}
	t.Run("background", func(t *testing.T) {
		o := configMap(t, ctx, client, ns, "bg")
		mid := configMap(t, ctx, client, ns, "bg-mid", owner(o, false))
		configMap(t, ctx, client, ns, "bg-leaf", owner(mid, false))
		remove("bg", metav1.DeletePropagationBackground)
		isGone("bg-mid")
		isGone("bg-leaf")
	})
	t.Run("foreground", func(t *testing.T) {
		o := configMap(t, ctx, client, ns, "fg")
		mid := configMap(t, ctx, client, ns, "fg-mid", owner(o, true))
		leaf := configMap(t, ctx, client, ns, "fg-leaf", owner(mid, true))
		hold := []byte(`{"metadata":{"finalizers":["test.dev/hold"]}}`)
		if _, err := maps.Patch(ctx, leaf.Name, types.MergePatchType, hold, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		remove("fg", metav1.DeletePropagationForeground)
		eventually(t, 5*time.Second, func() error {
			got, err := maps.Get(ctx, "fg-leaf", metav1.GetOptions{})
			if err == nil && got.DeletionTimestamp == nil {
				err = fmt.Errorf("the leaf is not being deleted")
			}
			return err
		})
		if _, err := maps.Get(ctx, "fg", metav1.GetOptions{}); err != nil {
			t.Fatalf("the owner must wait for its dependents: %v", err)
		}
		if _, err := maps.Patch(ctx, leaf.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		isGone("fg-leaf")
		isGone("fg-mid")
		isGone("fg")
	})
	t.Run("orphan", func(t *testing.T) {
		o := configMap(t, ctx, client, ns, "or")
		configMap(t, ctx, client, ns, "or-leaf", owner(o, true))
		remove("or", metav1.DeletePropagationOrphan)
		isGone("or")
		got, err := maps.Get(ctx, "or-leaf", metav1.GetOptions{})
		if err != nil || len(got.OwnerReferences) > 0 {
			t.Fatalf("orphan: %v %v", got.OwnerReferences, err)
		}
	})
	t.Run("circle", func(t *testing.T) {
		a := configMap(t, ctx, client, ns, "ring-a")
		b := configMap(t, ctx, client, ns, "ring-b", owner(a, true))
		refs := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"ring-b","uid":%q,"blockOwnerDeletion":true}]}}`, b.UID)
		if _, err := maps.Patch(ctx, "ring-a", types.MergePatchType, []byte(refs), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		remove("ring-a", metav1.DeletePropagationForeground)
		isGone("ring-a")
		isGone("ring-b")
	})
	t.Run("one owner of two stays", func(t *testing.T) {
		a, b := configMap(t, ctx, client, ns, "two-a"), configMap(t, ctx, client, ns, "two-b")
		configMap(t, ctx, client, ns, "two-leaf", owner(a, true), owner(b, true))
		remove("two-a", metav1.DeletePropagationForeground)
		isGone("two-a")
		eventually(t, 5*time.Second, func() error {
			got, err := maps.Get(ctx, "two-leaf", metav1.GetOptions{})
			if err == nil && (len(got.OwnerReferences) != 1 || got.OwnerReferences[0].UID != b.UID) {
				err = fmt.Errorf("owners %v", got.OwnerReferences)
			}
			return err
		})
	})
	t.Run("owner never was", func(t *testing.T) {
		never := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "never", UID: "0b3b8f2e-1111-4222-8333-444455556666"}}
		configMap(t, ctx, client, ns, "lost", owner(never, false))
		isGone("lost")
	})
}

func makeNode(t *testing.T, ctx context.Context, client kubernetes.Interface, name string, ready corev1.ConditionStatus) *corev1.Node {
	t.Helper()
	nodes := client.CoreV1().Nodes()
	node, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nodes.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	setReady(t, ctx, client, name, ready)
	return node
}

func setReady(t *testing.T, ctx context.Context, client kubernetes.Interface, name string, ready corev1.ConditionStatus) {
	t.Helper()
	patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":%q,"lastHeartbeatTime":%q,"lastTransitionTime":%q,"reason":"R","message":"m"}]}}`,
		ready, time.Now().UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339))
	if _, err := client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
}

func taintsAre(t *testing.T, ctx context.Context, client kubernetes.Interface, name string, want ...string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		var got []string
		for _, taint := range node.Spec.Taints {
			got = append(got, taint.Key+":"+string(taint.Effect))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			return fmt.Errorf("taints of %s are %v, want %v", name, got, want)
		}
		return nil
	})
}

func TestSilentNode(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{Grace: 3 * time.Second})
	ns := makeNamespace(t, ctx, client)
	makeNode(t, ctx, client, "silent-a", corev1.ConditionTrue)
	makeNode(t, ctx, client, "silent-b", corev1.ConditionTrue)
	taintsAre(t, ctx, client, "silent-a")
	p := create(t, ctx, client, ns, pod("p", onNode("silent-a")))
	ready := []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
	if _, err := client.CoreV1().Pods(ns).Patch(ctx, p.Name, types.StrategicMergePatchType, ready, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	alive, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	stop := func() { end(); <-ended }
	defer stop()
	go func() { // b keeps renewing its lease; a renewal that has begun is not cut
		defer close(ended)
		for tick := time.NewTicker(time.Second); alive.Err() == nil; {
			select {
			case <-tick.C:
				setReady(t, ctx, client, "silent-b", corev1.ConditionTrue)
			case <-alive.Done():
			}
		}
	}()
	taintsAre(t, ctx, client, "silent-a", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute")
	taintsAre(t, ctx, client, "silent-b")
	eventually(t, 5*time.Second, func() error {
		got, err := client.CoreV1().Pods(ns).Get(ctx, "p", metav1.GetOptions{})
		if err == nil && got.Status.Conditions[0].Status != corev1.ConditionFalse {
			err = fmt.Errorf("conditions %v", got.Status.Conditions)
		}
		return err
	})
	stop()
	setReady(t, ctx, client, "silent-a", corev1.ConditionTrue)
	taintsAre(t, ctx, client, "silent-a")
}

func TestTaintEviction(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	makeNode(t, ctx, client, "tainted", corev1.ConditionTrue)
	tolerates := func(seconds *int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds}}
		}
	}
	two, long := int64(2), int64(600)
	for name, f := range map[string]func(*corev1.Pod){"no": func(*corev1.Pod) {}, "two": tolerates(&two), "long": tolerates(&long), "ever": tolerates(nil)} {
		create(t, ctx, client, ns, pod(name, onNode("tainted"), f))
	}
	taintsAre(t, ctx, client, "tainted")
	if _, err := client.CoreV1().Nodes().Patch(ctx, "tainted", types.StrategicMergePatchType, []byte(`{"spec":{"taints":[{"key":"k","effect":"NoExecute"}]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	deleted := func(name string) error {
		p, err := client.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return gone(err)
		}
		if p.DeletionTimestamp == nil {
			return fmt.Errorf("%s is not being deleted", name)
		}
		if c := p.Status.Conditions; len(c) != 1 || c[0].Reason != "DeletionByTaintManager" {
			t.Fatalf("conditions of %s: %v", name, c)
		}
		return nil
	}
	eventually(t, 5*time.Second, func() error { return deleted("no") })
	if deleted("two") == nil {
		t.Fatal("the Pod that tolerates for two seconds went at once")
	}
	t.Logf("the other went after %v", eventually(t, 5*time.Second, func() error { return deleted("two") }))
	for _, name := range []string{"long", "ever"} {
		if deleted(name) == nil {
			t.Fatalf("%s was evicted", name)
		}
	}
}

func TestPodsOfNobody(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	create(t, ctx, client, ns, pod("unscheduled", func(p *corev1.Pod) { p.Finalizers = []string{"test.dev/hold"} }))
	if err := client.CoreV1().Pods(ns).Delete(ctx, "unscheduled", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() error {
		p, err := client.CoreV1().Pods(ns).Get(ctx, "unscheduled", metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodFailed {
			err = fmt.Errorf("phase %s", p.Status.Phase)
		}
		return err
	})
	if _, err := client.CoreV1().Pods(ns).Patch(ctx, "unscheduled", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() error {
		_, err := client.CoreV1().Pods(ns).Get(ctx, "unscheduled", metav1.GetOptions{})
		return gone(err)
	})
}

func TestBudget(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	one := intstr.FromInt32(1)
	_, err := client.PolicyV1().PodDisruptionBudgets(ns).Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "b"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	allows := func(n int32) {
		t.Helper()
		eventually(t, 5*time.Second, func() error {
			b, err := client.PolicyV1().PodDisruptionBudgets(ns).Get(ctx, "b", metav1.GetOptions{})
			if err == nil && (b.Status.DisruptionsAllowed != n || b.Status.ObservedGeneration != b.Generation) {
				err = fmt.Errorf("status %+v", b.Status)
			}
			return err
		})
	}
	allows(0)
	for _, name := range []string{"a", "b"} {
		create(t, ctx, client, ns, pod(name, onNode("nowhere")))
		ready := []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
		if _, err := client.CoreV1().Pods(ns).Patch(ctx, name, types.StrategicMergePatchType, ready, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	allows(1)
	if err := client.CoreV1().Pods(ns).Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	allows(0)
}

func TestEndpoints(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	if _, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "behind"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.CoreV1().Nodes().Delete(context.Background(), "behind", metav1.DeleteOptions{}) })
	service, err := client.CoreV1().Services(ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "x"},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slice := func(check func(discoveryv1.EndpointSlice) bool) time.Duration {
		t.Helper()
		return eventually(t, 5*time.Second, func() error {
			list, err := client.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
			if err == nil && (len(list.Items) != 1 || !check(list.Items[0])) {
				err = fmt.Errorf("slices %+v", list.Items)
			}
			return err
		})
	}
	slice(func(s discoveryv1.EndpointSlice) bool {
		return len(s.Endpoints) == 0 && s.OwnerReferences[0].UID == service.UID
	})
	create(t, ctx, client, ns, pod("a", onNode("behind"), func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}
	}))
	setStatus := func(ready string) {
		t.Helper()
		status := fmt.Sprintf(`{"status":{"phase":"Running","podIP":"10.1.2.3","podIPs":[{"ip":"10.1.2.3"}],"conditions":[{"type":"Ready","status":%q}]}}`, ready)
		if _, err := client.CoreV1().Pods(ns).Patch(ctx, "a", types.StrategicMergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	setStatus("False")
	slice(func(s discoveryv1.EndpointSlice) bool {
		return len(s.Endpoints) == 1 && !*s.Endpoints[0].Conditions.Ready && *s.Ports[0].Port == 8080
	})
	setStatus("True")
	t.Logf("ready after %v", slice(func(s discoveryv1.EndpointSlice) bool {
		return *s.Endpoints[0].Conditions.Ready && s.Endpoints[0].Addresses[0] == "10.1.2.3" && s.Labels["team"] == "a"
	}))
	eventually(t, 5*time.Second, func() error {
		e, err := client.CoreV1().Endpoints(ns).Get(ctx, "web", metav1.GetOptions{})
		if err == nil && (len(e.Subsets) != 1 || len(e.Subsets[0].Addresses) != 1 || e.Subsets[0].Ports[0].Port != 8080) {
			err = fmt.Errorf("subsets %+v", e.Subsets)
		}
		return err
	})
	if err := client.CoreV1().Endpoints(ns).Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() error {
		_, err := client.CoreV1().Endpoints(ns).Get(ctx, "web", metav1.GetOptions{})
		return err
	})
	if err := client.CoreV1().Services(ns).Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() error {
		_, err := client.CoreV1().Endpoints(ns).Get(ctx, "web", metav1.GetOptions{})
		return gone(err)
	})
	eventually(t, 5*time.Second, func() error {
		list, err := client.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d slices are left", len(list.Items))
		}
		return err
	})
}

func TestReplicas(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	three, labels := int32(3), map[string]string{"app": "x"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod("").Spec}
	orphan := create(t, ctx, client, ns, pod("orphan"))
	rs, err := client.AppsV1().ReplicaSets(ns).Create(ctx, &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "rs"},
		Spec:       appsv1.ReplicaSetSpec{Replicas: &three, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	has := func(n int) []corev1.Pod {
		t.Helper()
		var out []corev1.Pod
		eventually(t, 10*time.Second, func() error {
			list, err := client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: "app=x"})
			if err != nil {
				return err
			}
			out = nil
			for _, p := range list.Items {
				if owner := metav1.GetControllerOf(&p); p.DeletionTimestamp == nil && owner != nil && owner.UID == rs.UID {
					out = append(out, p)
				}
			}
			got, err := client.AppsV1().ReplicaSets(ns).Get(ctx, "rs", metav1.GetOptions{})
			if err == nil && (len(out) != n || int(got.Status.Replicas) != n || got.Status.ObservedGeneration != got.Generation) {
				err = fmt.Errorf("%d pods, status %+v", len(out), got.Status)
			}
			return err
		})
		return out
	}
	pods := has(3)
	if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.UID == orphan.UID }) {
		t.Error("the orphan was not adopted")
	}
	if err := client.CoreV1().Pods(ns).Delete(ctx, pods[0].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	has(3)
	scale := []byte(`{"spec":{"replicas":1}}`)
	if _, err := client.AppsV1().ReplicaSets(ns).Patch(ctx, "rs", types.MergePatchType, scale, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	left := has(1)
	// A Pod whose label changes is released, and another is created in its place.
	if _, err := client.CoreV1().Pods(ns).Patch(ctx, left[0].Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"y"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if again := has(1); again[0].UID == left[0].UID {
		t.Error("the Pod was kept")
	}
	eventually(t, 5*time.Second, func() error {
		p, err := client.CoreV1().Pods(ns).Get(ctx, left[0].Name, metav1.GetOptions{})
		if err == nil && len(p.OwnerReferences) > 0 {
			err = fmt.Errorf("owners %v", p.OwnerReferences)
		}
		return err
	})
}

func TestQuota(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	hard := corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{"pods", "requests.cpu", "limits.memory", "configmaps", "count/replicasets.apps", "services"} {
		hard[name] = resource.MustParse("10")
	}
	if _, err := client.CoreV1().ResourceQuotas(ns).Create(ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	uses := func(want string) {
		t.Helper()
		eventually(t, 5*time.Second, func() error {
			q, err := client.CoreV1().ResourceQuotas(ns).Get(ctx, "q", metav1.GetOptions{})
			if err != nil {
				return err
			}
			text := ""
			for _, name := range []corev1.ResourceName{"pods", "requests.cpu", "limits.memory", "configmaps", "count/replicasets.apps", "services"} {
				v := q.Status.Used[name]
				text += fmt.Sprintf("%s=%s ", name, v.String())
			}
			if text != want {
				return fmt.Errorf("used %s", text)
			}
			return nil
		})
	}
	uses("pods=0 requests.cpu=0 limits.memory=0 configmaps=1 count/replicasets.apps=0 services=0 ")
	create(t, ctx, client, ns, pod("a", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("250m")}, Limits: corev1.ResourceList{"memory": resource.MustParse("1")},
		}
	}))
	configMap(t, ctx, client, ns, "c")
	uses("pods=1 requests.cpu=250m limits.memory=1 configmaps=2 count/replicasets.apps=0 services=0 ")
	if _, err := client.CoreV1().Pods(ns).Patch(ctx, "a", types.StrategicMergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().ConfigMaps(ns).Delete(ctx, "c", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	uses("pods=0 requests.cpu=0 limits.memory=0 configmaps=1 count/replicasets.apps=0 services=0 ")
}

func TestVolumesInUseStay(t *testing.T) {
	ctx, client := cluster(t, nodelifecycle.Config{})
	ns := makeNamespace(t, ctx, client)
	size := corev1.ResourceList{"storage": resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	if _, err := client.CoreV1().PersistentVolumeClaims(ns).Create(ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "c"},
		Spec:       corev1.PersistentVolumeClaimSpec{AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	volume, err := client.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: ns},
		Spec: corev1.PersistentVolumeSpec{AccessModes: modes, Capacity: size,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp/x"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	volume.Status.Phase = corev1.VolumeBound
	if _, err := client.CoreV1().PersistentVolumes().UpdateStatus(ctx, volume, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, ctx, client, ns, pod("user", onNode("nowhere"), func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
	}))
	if err := client.CoreV1().PersistentVolumeClaims(ns).Delete(ctx, "c", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().PersistentVolumes().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// Objects that are not in use are deleted meanwhile: only use holds the others back.
	if _, err := client.CoreV1().PersistentVolumeClaims(ns).Create(ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "unused"},
		Spec:       corev1.PersistentVolumeClaimSpec{AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().PersistentVolumeClaims(ns).Delete(ctx, "unused", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	claimGone := func(name string) func() error {
		return func() error {
			_, err := client.CoreV1().PersistentVolumeClaims(ns).Get(ctx, name, metav1.GetOptions{})
			return gone(err)
		}
	}
	eventually(t, 10*time.Second, claimGone("unused"))
	if claimGone("c")() == nil {
		t.Error("the claim that a Pod uses is gone")
	}
	if volume, err = client.CoreV1().PersistentVolumes().Get(ctx, ns, metav1.GetOptions{}); err != nil {
		t.Fatalf("the bound volume: %v", err)
	}
	if err := client.CoreV1().Pods(ns).Delete(ctx, "user", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, claimGone("c"))
	volume.Status.Phase = corev1.VolumeReleased
	if _, err := client.CoreV1().PersistentVolumes().UpdateStatus(ctx, volume, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		_, err := client.CoreV1().PersistentVolumes().Get(ctx, ns, metav1.GetOptions{})
		return gone(err)
	})
}
