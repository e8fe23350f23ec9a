package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/controller/sources"
)

// world is everything that the controller reads and writes but for its own objects.
type world struct {
	mu       sync.Mutex
	replicas map[string]int32 // by target
	selector string
	value    int64 // of any metric
	log      []string
	refuse   error // of the next change of a scale
}

func (w *world) get(_ context.Context, namespace string, ref autoscalingv2.CrossVersionObjectReference) (scale, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, ok := w.replicas[ref.Name]
	if !ok {
		return scale{}, errors.New("not found")
	}
	w.log = append(w.log, "read "+ref.Name)
	return scale{object: &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: ref.Name},
		Spec:       autoscalingv1.ScaleSpec{Replicas: n},
		Status:     autoscalingv1.ScaleStatus{Replicas: n, Selector: w.selector},
	}}, nil
}

func (w *world) set(_ context.Context, s scale, n int32) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.refuse; err != nil {
		w.refuse = nil
		return err
	}
	w.replicas[s.object.Name] = n
	w.log = append(w.log, fmt.Sprint("scale ", s.object.Name, " to ", n))
	return nil
}

func (w *world) resource(context.Context, string, corev1.ResourceName, string, labels.Selector) (samples, error) {
	return nil, errors.New("no metrics returned from resource metrics API")
}

func (w *world) ofPods(string, string, labels.Selector, labels.Selector) (samples, error) {
	return nil, errors.New("none")
}

func (w *world) ofObject(string, string, autoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, error) {
	return w.value, nil
}

func (w *world) external(string, string, labels.Selector) ([]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return []int64{w.value}, nil
}

// rig is a controller in a world of its own.
type rig struct {
	*world
	t      *testing.T
	k      *Controller
	client *fake.Clientset
	clock  *clocktesting.FakeClock
	events *record.FakeRecorder
}

func newRig(t *testing.T, objects ...runtime.Object) *rig {
	t.Helper()
	r := &rig{
		world: &world{replicas: map[string]int32{"web": 2}, selector: "app=web", value: 2000}, t: t,
		client: fake.NewClientset(objects...), clock: clocktesting.NewFakeClock(noon), events: record.NewFakeRecorder(100),
	}
	src := sources.New(r.client)
	r.k = newController(r.client, src, r.events, r.clock)
	r.k.scales, r.k.metrics = r.world, r.world
	src.Start(t.Context())
	done := make(chan struct{})
	go func() { r.k.Run(t.Context()); close(done) }()
	t.Cleanup(func() { <-done; src.Wait() })
	return r
}

// eventually waits until check returns "".
func (r *rig) eventually(check func() string) {
	r.t.Helper()
	deadline, last := time.Now().Add(10*time.Second), ""
	for time.Now().Before(deadline) {
		if last = check(); last == "" {
			return
		}
		time.Sleep(time.Millisecond)
	}
	r.t.Fatal("never: ", last)
}

// laterOn is eventually with time that passes.
func (r *rig) laterOn(check func() string) {
	r.t.Helper()
	r.eventually(func() string {
		missing := check()
		if missing != "" {
			r.clock.Step(period)
		}
		return missing
	})
}

func (r *rig) stored(name string) *autoscalingv2.HorizontalPodAutoscaler {
	r.t.Helper()
	a, err := r.client.AutoscalingV2().HorizontalPodAutoscalers("ns").Get(r.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// has reports whether an autoscaler has a condition with a reason.
func (r *rig) has(name string, kind autoscalingv2.HorizontalPodAutoscalerConditionType, reason string) string {
	a := r.stored(name)
	for _, c := range a.Status.Conditions {
		if c.Type == kind && c.Reason == reason {
			return ""
		}
	}
	return fmt.Sprintf("%s %s in %+v", kind, reason, a.Status.Conditions)
}

// change changes the world.
func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// done returns what the controller has done so far.
func (w *world) done() (log []string) {
	w.change(func() { log = slices.Clone(w.log) })
	return log
}

func webPod() *corev1.Pod {
	p := ready(1)[0]
	p.Namespace, p.Labels = "ns", map[string]string{"app": "web"}
	return p
}

// byQueue returns an autoscaler of target "web" that wants one replica for each 1000 of the metric.
func byQueue(name string, change ...func(*autoscalingv2.HorizontalPodAutoscaler)) *autoscalingv2.HorizontalPodAutoscaler {
	a := scaler([]autoscalingv2.MetricSpec{queue("", "1")}, append(change, quick)...)
	a.Name, a.UID = name, types.UID(name)
	a.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web"}
	return a
}

func TestNoAutoscalerCostsNothing(t *testing.T) {
	r := newRig(t, webPod())
	r.eventually(func() string {
		if r.k.synced[0]() && r.k.synced[1]() {
			return ""
		}
		return "synced"
	})
	if r.clock.HasWaiters() || len(r.done()) > 0 {
		t.Errorf("a timer: %v; done: %v", r.clock.HasWaiters(), r.done())
	}
}

func TestEveryAutoscalerIsDueAtTheSameTimes(t *testing.T) {
	r := newRig(t, webPod(), byQueue("a"))
	r.eventually(func() string { return r.has("a", autoscalingv2.AbleToScale, "ReadyForNewScale") })
	for _, after := range []time.Duration{0, time.Millisecond, 7 * time.Second, period - time.Millisecond} {
		r.clock.SetTime(noon.Add(after))
		if again, err := r.k.sync(t.Context(), types.NamespacedName{Namespace: "ns", Name: "a"}); err != nil || again != period-after {
			t.Errorf("after %v: again in %v, want %v (%v)", after, again, period-after, err)
		}
	}
}

func TestAChangedSpecIsLookedAtAtOnce(t *testing.T) {
	r := newRig(t, webPod(), byQueue("a"))
	r.eventually(func() string { return r.has("a", autoscalingv2.AbleToScale, "ReadyForNewScale") })
	a := r.stored("a")
	a.Spec.MaxReplicas, a.Generation = 1, 2
	if _, err := r.client.AutoscalingV2().HorizontalPodAutoscalers("ns").Update(t.Context(), a, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.eventually(func() string { return r.has("a", autoscalingv2.AbleToScale, "SucceededRescale") })
	if got := r.stored("a").Status; *got.ObservedGeneration != 2 || got.DesiredReplicas != 1 || got.LastScaleTime == nil {
		t.Errorf("status: %+v", got)
	}
	if want := []string{"read web", "read web", "scale web to 1"}; !slices.Equal(r.done(), want) {
		t.Errorf("done: %v, want %v: its own status is no reason to look again", r.done(), want)
	}
}

func TestTwoAutoscalersOfOnePodAreRefused(t *testing.T) {
	r := newRig(t, webPod(), byQueue("a"))
	r.eventually(func() string { return r.has("a", autoscalingv2.ScalingActive, "ValidMetricFound") })
	if _, err := r.client.AutoscalingV2().HorizontalPodAutoscalers("ns").Create(t.Context(), byQueue("b"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.eventually(func() string { return r.has("b", autoscalingv2.ScalingActive, "AmbiguousSelector") })
	const message = "pods by selector app=web are controlled by more than one HPA (e.g. [{a ns} {b ns}])"
	if want := "Warning AmbiguousSelector " + message; <-r.events.Events != want {
		t.Errorf("the event is not %q", want)
	}
	if err := r.client.AutoscalingV2().HorizontalPodAutoscalers("ns").Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.eventually(func() string {
		r.k.mu.Lock()
		defer r.k.mu.Unlock()
		if len(r.k.known) > 1 {
			return "the deleted one is forgotten"
		}
		return ""
	})
	r.laterOn(func() string { return r.has("b", autoscalingv2.ScalingActive, "ValidMetricFound") })
}

func TestAStatusIsWrittenOverSomeoneElsesChange(t *testing.T) {
	a, conflicts := byQueue("a"), 2
	r := newRig(t, webPod())
	r.client.PrependReactor("update", "horizontalpodautoscalers", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() == "status" && conflicts > 0 {
			conflicts--
			return true, nil, apierrors.NewConflict(autoscalingv2.Resource("horizontalpodautoscalers"), "a", errors.New("changed"))
		}
		return false, nil, nil
	})
	if _, err := r.client.AutoscalingV2().HorizontalPodAutoscalers("ns").Create(t.Context(), a, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.eventually(func() string { return r.has("a", autoscalingv2.AbleToScale, "ReadyForNewScale") })
	select {
	case e := <-r.events.Events:
		t.Errorf("event %s", e)
	default:
	}
}

// Who scaled to zero is written before it is done: otherwise a crash between the two would leave a target at zero for
// good.
func TestAScaleToZeroIsRememberedBeforeItIsDone(t *testing.T) {
	r := newRig(t, webPod())
	r.change(func() { r.value, r.refuse = 0, errors.New("the daemon ends here") })
	if _, err := r.client.AutoscalingV2().HorizontalPodAutoscalers("ns").Create(t.Context(), byQueue("a", from(0)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.eventually(func() string { return r.has("a", autoscalingv2.AbleToScale, "FailedUpdateScale") })
	if missing := r.has("a", autoscalingv2.ScaledToZero, "ScaledToZero"); missing != "" {
		t.Error("no condition ", missing)
	}
	if e := <-r.events.Events; !strings.Contains(e, "FailedRescale New size: 0; reason: All metrics below target; error: the daemon ends here") {
		t.Error(e)
	}
	r.laterOn(func() string { return r.has("a", autoscalingv2.ScaledToZero, "ScaledToZero") })
	r.laterOn(func() string {
		if got := r.done(); !slices.Contains(got, "scale web to 0") {
			return fmt.Sprint("scaled to 0: ", got)
		}
		return ""
	})
	r.change(func() { r.value = 3000 })
	r.laterOn(func() string {
		if got := r.done(); !slices.Contains(got, "scale web to 3") {
			return fmt.Sprint("back to 3: ", got)
		}
		return ""
	})
}
