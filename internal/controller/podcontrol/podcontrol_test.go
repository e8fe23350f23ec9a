package podcontrol

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/controller/podcontrol/podtest"
)

func pendingP(p *corev1.Pod)  { p.Status.Phase = corev1.PodPending }
func unplaced(p *corev1.Pod)  { p.Spec.NodeName = "" }
func cheap(p *corev1.Pod)     { p.Annotations = map[string]string{DeletionCost: "-5"} }
func otherNode(p *corev1.Pod) { p.Spec.NodeName = "n2" }
func restarted(p *corev1.Pod) {
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}}
}
func young(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(podtest.Now.Add(-time.Minute)) }

func TestDispensable(t *testing.T) {
	pods := []*corev1.Pod{
		podtest.New("old"), podtest.New("young", young), podtest.New("restarted", restarted), podtest.New("ready-late", podtest.ReadyFor(time.Minute)),
		podtest.New("lonely", otherNode), podtest.New("cheap", cheap), podtest.New("unready", podtest.Unready), podtest.New("pending", pendingP), podtest.New("unplaced", pendingP, unplaced),
	}
	var got []string
	for _, p := range Dispensable(pods, pods, podtest.Now) {
		got = append(got, p.Name)
	}
	want := []string{"unplaced", "pending", "unready", "cheap", "ready-late", "restarted", "young", "old", "lonely"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestClaim(t *testing.T) {
	yes := true
	owned := func(uid types.UID) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{{UID: uid, Controller: &yes}} }
	}
	relabeled := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "y"} }
	owner := &metav1.ObjectMeta{Name: "s", UID: "s"}
	selector := labels.SelectorFromSet(labels.Set{"app": "x"})
	c := Claim(owner, selector, []*corev1.Pod{
		podtest.New("mine", owned("s")), podtest.New("others", owned("o")), podtest.New("free"), podtest.New("stranger", relabeled),
		podtest.New("left", owned("s"), relabeled), podtest.New("free-ended", podtest.Ended), podtest.New("free-going", podtest.Deleted),
	}, Active)
	names := func(pods []*corev1.Pod) string {
		out := ""
		for _, p := range pods {
			out += p.Name + " "
		}
		return out
	}
	if got := names(c.Mine) + "| " + names(c.Adopt) + "| " + names(c.Release); got != "mine | free | left " {
		t.Errorf("got %q", got)
	}
	if c := Claim(owner, labels.Everything(), []*corev1.Pod{podtest.New("free")}, Active); len(c.Adopt) > 0 {
		t.Error("an empty selector adopts")
	}
}

func TestExpectations(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(podtest.Now)
	e := NewExpectations(clock)
	e.Created("s", "a")
	e.Created("s", "b")
	for _, uid := range []types.UID{"c", "d", "e"} {
		e.Deleting("s", uid, false)
	}
	cached := []*corev1.Pod{podtest.New("a"), podtest.New("c"), podtest.New("d", podtest.Deleted)}
	unseen, going := Settle(e, "s", cached)
	if unseen != 1 || !going(cached[1]) || going(cached[0]) || going(cached[2]) {
		t.Errorf("%d unseen, c going %v", unseen, going(cached[1]))
	}
	e.Deleting("s", "c", true)
	if _, going := Settle(e, "s", cached); going(cached[1]) {
		t.Error("a failed deletion is still expected")
	}
	clock.SetTime(podtest.Now.Add(2 * forgetAfter))
	if unseen, _ := Settle(e, "s", cached); unseen != 0 {
		t.Errorf("%d unseen after the time to wait for them", unseen)
	}
}

func TestSlowStartStopsAfterTheFirstBadBatch(t *testing.T) {
	var calls atomic.Int32
	done, err := SlowStart(100, func(i int) error {
		calls.Add(1)
		if i >= 3 {
			return errors.New("refused")
		}
		return nil
	})
	if err == nil || done != 3 || calls.Load() != 7 {
		t.Errorf("%d done in %d calls, %v; want 3 in 7 calls and an error", done, calls.Load(), err)
	}
	if done, err := SlowStart(100, func(int) error { return nil }); done != 100 || err != nil {
		t.Errorf("%d done, %v", done, err)
	}
}

// The hash names ReplicaSets: it is the one that kubectl users know from Kubernetes for this template.
func TestTemplateHash(t *testing.T) {
	template := &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x"}}}
	plain := TemplateHash(template, nil)
	if again := TemplateHash(template.DeepCopy(), nil); again != plain {
		t.Errorf("%s and then %s", plain, again)
	}
	one := int32(1)
	if collided := TemplateHash(template, &one); collided == plain {
		t.Error("a collision changes nothing")
	}
}
