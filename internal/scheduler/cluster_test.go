package scheduler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"podium.dev/podium/internal/scheduler"
	"podium.dev/podium/internal/scheduler/apitest"
)

func TestMain(m *testing.M) { apitest.Main(m) }

// world is a namespace and nodes of its own in the cluster, and a scheduler that runs until the test ends.
type world struct {
	*testing.T
	ctx       context.Context
	client    kubernetes.Interface
	scheduler *scheduler.Scheduler
	ns        string
}

func connect(t testing.TB) kubernetes.Interface {
	t.Helper()
	cfg := apitest.Config(t)
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// makeNamespace creates the world's namespace and removes everything in the world when the test ends.
func (w *world) makeNamespace() {
	w.Helper()
	ns, err := w.client.CoreV1().Namespaces().Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "sched-"}}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.ns = ns.Name
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}} // its controller does not run here
	if _, err := w.client.CoreV1().ServiceAccounts(w.ns).Create(w.ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		ctx, zero := context.Background(), int64(0)
		_ = w.client.CoreV1().Pods(w.ns).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{})
		_ = w.client.CoreV1().Namespaces().Delete(ctx, w.ns, metav1.DeleteOptions{})
		_ = w.client.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "world=" + w.ns})
	})
}

func newWorld(t *testing.T, options scheduler.Options) *world {
	t.Helper()
	w := &world{T: t, client: connect(t), ctx: t.Context()}
	w.makeNamespace()
	w.scheduler = scheduler.New(w.client, options)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.scheduler.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) node(name string, cpu, memory string, change ...func(*corev1.Node)) *corev1.Node {
	w.Helper()
	list := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory), corev1.ResourcePods: resource.MustParse("110"),
	}
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: w.ns + "-" + name, Labels: map[string]string{"world": w.ns, corev1.LabelHostname: name}},
		Status:     corev1.NodeStatus{Capacity: list, Allocatable: list},
	}
	for _, f := range change {
		f(n)
	}
	out, err := w.client.CoreV1().Nodes().Create(w.ctx, n, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	// Admission adds a not-ready taint to new nodes.
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"taints": n.Spec.Taints}})
	if err != nil {
		w.Fatal(err)
	}
	if out, err = w.client.CoreV1().Nodes().Patch(w.ctx, out.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *world) pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			Containers:   []corev1.Container{{Name: "c", Image: "i"}},
			NodeSelector: map[string]string{"world": w.ns},
		},
	}
	for _, f := range change {
		f(p)
	}
	out, err := w.client.CoreV1().Pods(w.ns).Create(w.ctx, p, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return out
}

func requests(cpu, memory string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}
	}
}

func (w *world) eventually(within time.Duration, check func() error) time.Duration {
	w.Helper()
	start := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > within {
			w.Fatalf("not within %v: %v", within, err)
		}
		<-tick.C
	}
}

// placed waits until the Pod is on a node, and returns the node's short name.
func (w *world) placed(pod string) string {
	w.Helper()
	var node string
	w.eventually(10*time.Second, func() error {
		p, err := w.client.CoreV1().Pods(w.ns).Get(w.ctx, pod, metav1.GetOptions{})
		if err == nil && p.Spec.NodeName == "" {
			err = fmt.Errorf("%s has no node: %v", pod, p.Status.Conditions)
		} else if err == nil {
			node = p.Spec.NodeName[len(w.ns)+1:]
		}
		return err
	})
	return node
}

// waits waits until the Pod's condition has the message.
func (w *world) waits(pod, message string) {
	w.Helper()
	w.eventually(10*time.Second, func() error {
		p, err := w.client.CoreV1().Pods(w.ns).Get(w.ctx, pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
		if i < 0 {
			return fmt.Errorf("no condition; node %q", p.Spec.NodeName)
		}
		if c := p.Status.Conditions[i]; c.Status != corev1.ConditionFalse || c.Reason != corev1.PodReasonUnschedulable || c.Message != message {
			return fmt.Errorf("condition is %s %s:\n%s\nwant\n%s", c.Status, c.Reason, c.Message, message)
		}
		return nil
	})
}

func (w *world) event(pod *corev1.Pod, reason, message string) {
	w.Helper()
	w.eventually(10*time.Second, func() error {
		list, err := w.client.CoreV1().Events(w.ns).List(w.ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == reason && e.Message == message {
				return nil
			}
		}
		return fmt.Errorf("no such event among %d", len(list.Items))
	})
}

func TestPlacesAndSaysSo(t *testing.T) {
	w := newWorld(t, scheduler.Options{})
	n := w.node("a", "2", "1Gi")
	p := w.pod("p", requests("1", "100Mi"))
	if got := w.placed("p"); got != "a" {
		t.Fatalf("on %s", got)
	}
	w.event(p, "Scheduled", fmt.Sprintf("Successfully assigned %s/p to %s", w.ns, n.Name))
}

func TestRoomMadeWakesAtOnce(t *testing.T) {
	w := newWorld(t, scheduler.Options{})
	w.node("a", "2", "1Gi")
	w.pod("first", requests("1500m", "100Mi"))
	w.placed("first")
	p := w.pod("second", requests("1", "100Mi"))
	message := "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
	w.waits("second", message)
	w.event(p, "FailedScheduling", message)
	zero := int64(0)
	start := time.Now()
	if err := w.client.CoreV1().Pods(w.ns).Delete(w.ctx, "first", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	w.placed("second")
	t.Logf("placed %v after room was asked for", time.Since(start))
}

func TestEndedPodFreesRoom(t *testing.T) {
	w := newWorld(t, scheduler.Options{})
	w.node("a", "2", "1Gi")
	w.pod("first", requests("1500m", "100Mi"))
	w.placed("first")
	w.pod("second", requests("1", "100Mi"))
	w.waits("second", "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
	patch := []byte(`{"status":{"phase":"Succeeded"}}`)
	start := time.Now()
	if _, err := w.client.CoreV1().Pods(w.ns).Patch(w.ctx, "first", types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	w.placed("second")
	t.Logf("placed %v after the other ended", time.Since(start))
}

func TestMessages(t *testing.T) {
	w := newWorld(t, scheduler.Options{})
	w.node("small", "1", "1Gi")
	w.node("cordoned", "8", "8Gi", func(n *corev1.Node) { n.Spec.Unschedulable = true })
	w.node("tainted", "8", "8Gi", func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}}
	})
	w.pod("p", requests("2", "2Gi"))
	w.waits("p", "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.")
	// No node has the label at first; then one gets it.
	w.pod("q", func(p *corev1.Pod) { p.Spec.NodeSelector["disk"] = "ssd" })
	w.waits("q", "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.")
	if _, err := w.client.CoreV1().Nodes().Patch(w.ctx, w.ns+"-small", types.MergePatchType, []byte(`{"metadata":{"labels":{"disk":"ssd"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := w.placed("q"); got != "small" {
		t.Errorf("on %s", got)
	}
	if _, err := w.client.CoreV1().Nodes().Patch(w.ctx, w.ns+"-cordoned", types.MergePatchType, []byte(`{"spec":{"unschedulable":false}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := w.placed("p"); got != "cordoned" {
		t.Errorf("on %s", got)
	}
}

func TestGatesAndOtherSchedulers(t *testing.T) {
	w := newWorld(t, scheduler.Options{})
	w.node("a", "2", "1Gi")
	w.pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "test.dev/g"}} })
	w.pod("other", func(p *corev1.Pod) { p.Spec.SchedulerName = "someone" })
	w.pod("plain")
	w.placed("plain")
	if _, err := w.client.CoreV1().Pods(w.ns).Patch(w.ctx, "gated", types.MergePatchType, []byte(`{"spec":{"schedulingGates":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	w.placed("gated")
	if p, err := w.client.CoreV1().Pods(w.ns).Get(w.ctx, "other", metav1.GetOptions{}); err != nil || p.Spec.NodeName != "" {
		t.Errorf("the Pod of another scheduler: %q %v", p.Spec.NodeName, err)
	}
}

func TestHostPorts(t *testing.T) {
	w := newWorld(t, scheduler.Options{})
	w.node("a", "2", "1Gi")
	port := func(n int32, ip string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: n, HostIP: ip}}
		}
	}
	w.pod("first", port(8080, "127.0.0.1"))
	w.placed("first")
	w.pod("same-port-other-address", port(8080, "127.0.0.2"))
	w.placed("same-port-other-address")
	w.pod("every-address", port(8080, ""))
	w.waits("every-address", "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
}

func priority(class string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.PriorityClassName = class }
}

func (w *world) priorityClass(name string, value int32, policy ...corev1.PreemptionPolicy) string {
	w.Helper()
	in := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: w.ns + "-" + name}, Value: value}
	if len(policy) > 0 {
		in.PreemptionPolicy = &policy[0]
	}
	pc, err := w.client.SchedulingV1().PriorityClasses().Create(w.ctx, in, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_ = w.client.SchedulingV1().PriorityClasses().Delete(context.Background(), pc.Name, metav1.DeleteOptions{})
	})
	return pc.Name
}

func TestPreemption(t *testing.T) {
	w := newWorld(t, scheduler.Options{})
	w.node("a", "2", "1Gi")
	low, high := w.priorityClass("low", 1), w.priorityClass("high", 100)
	hold := func(p *corev1.Pod) { p.Finalizers = []string{"test.dev/hold"} }
	victim := w.pod("victim", requests("1500m", "100Mi"), priority(low), hold)
	w.pod("spared", requests("200m", "100Mi"), priority(low))
	w.placed("victim")
	w.placed("spared")
	pod := w.pod("high", requests("1", "100Mi"), priority(high))
	w.waits("high", "0/1 nodes are available: 1 Insufficient cpu. preemption: found a potential placement for pod on node "+w.ns+"-a, preempting 1 victims")
	w.event(victim, "Preempted", fmt.Sprintf("Preempted by pod %s on node %s-a", pod.UID, w.ns))
	w.eventually(5*time.Second, func() error {
		got, err := w.client.CoreV1().Pods(w.ns).Get(w.ctx, "high", metav1.GetOptions{})
		if err == nil && got.Status.NominatedNodeName != w.ns+"-a" {
			err = fmt.Errorf("nominated to %q", got.Status.NominatedNodeName)
		}
		return err
	})
	got, err := w.client.CoreV1().Pods(w.ns).Get(w.ctx, "victim", metav1.GetOptions{})
	if err != nil || got.DeletionTimestamp == nil {
		t.Fatalf("the victim is not being deleted: %v", err)
	}
	i := slices.IndexFunc(got.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget })
	if c := got.Status.Conditions[i]; c.Reason != "PreemptionByScheduler" || c.Message != "default-scheduler: preempting to accommodate a higher priority pod" {
		t.Errorf("condition %+v", c)
	}
	// The room is promised: a Pod of lower priority must not slip in, even if it would fit.
	w.pod("slip", requests("300m", "1Mi"), priority(low))
	w.waits("slip", "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
	zero := int64(0)
	if _, err := w.client.CoreV1().Pods(w.ns).Patch(w.ctx, "victim", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_ = w.client.CoreV1().Pods(w.ns).Delete(w.ctx, "victim", metav1.DeleteOptions{GracePeriodSeconds: &zero})
	w.placed("high")
	t.Logf("placed %v after the victim went", time.Since(start))
	w.placed("slip")
	if got, err := w.client.CoreV1().Pods(w.ns).Get(w.ctx, "spared", metav1.GetOptions{}); err != nil || got.DeletionTimestamp != nil {
		t.Errorf("the spared Pod: %v", err)
	}
}

func TestPreemptionNever(t *testing.T) {
	w := newWorld(t, scheduler.Options{})
	w.node("a", "2", "1Gi")
	low, high := w.priorityClass("low", 1), w.priorityClass("high", 100, corev1.PreemptNever)
	w.pod("low", requests("1500m", "100Mi"), priority(low))
	w.placed("low")
	w.pod("polite", requests("1", "100Mi"), priority(high))
	w.waits("polite", "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.")
}

func TestClaims(t *testing.T) {
	w := newWorld(t, scheduler.Options{})
	w.node("a", "2", "1Gi")
	w.node("b", "2", "1Gi")
	w.pod("p", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
	})
	w.waits("p", `0/2 nodes are available: persistentvolumeclaim "c" not found. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.`)
	gib := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	none := ""
	claim, err := w.client.CoreV1().PersistentVolumeClaims(w.ns).Create(w.ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "c"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}, StorageClassName: &none, Resources: corev1.VolumeResourceRequirements{Requests: gib},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.waits("p", "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.")
	volume, err := w.client.CoreV1().PersistentVolumes().Create(w.ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: w.ns},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: claim.Spec.AccessModes, Capacity: gib, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/x"}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}},
			}}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.client.CoreV1().PersistentVolumes().Delete(context.Background(), volume.Name, metav1.DeleteOptions{})
	})
	claim.Spec.VolumeName = volume.Name
	if _, err := w.client.CoreV1().PersistentVolumeClaims(w.ns).Update(w.ctx, claim, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := w.placed("p"); got != "b" {
		t.Errorf("on %s", got)
	}
	w.pod("second", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
	})
	w.waits("second", "0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.")
	zero := int64(0)
	if err := w.client.CoreV1().Pods(w.ns).Delete(w.ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	w.placed("second")
}

func TestLatency(t *testing.T) {
	w := newWorld(t, scheduler.Options{})
	w.node("a", "200", "100Gi")
	watch, err := w.client.CoreV1().Pods(w.ns).Watch(w.ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	var took []time.Duration
	for i := range 50 {
		name := fmt.Sprint("p", i)
		w.pod(name, requests("1", "1Mi"))
		seen := time.Time{}
		for e := range watch.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok || p.Name != name {
				continue
			}
			if seen.IsZero() {
				seen = time.Now()
			}
			if p.Spec.NodeName != "" {
				took = append(took, time.Since(seen))
				break
			}
		}
	}
	slices.Sort(took)
	t.Logf("from a Pod's creation seen to its binding seen: p50 %v, p99 %v", took[len(took)/2], took[len(took)-1])
}
