package deployment

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

var start = time.Unix(1_000_000, 0)

func newDeployment(replicas int32, image string, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	quarter := intstr.FromString("25%")
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "ns", UID: "d", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}},
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &quarter, MaxUnavailable: &quarter},
			},
			ProgressDeadlineSeconds: ptr.To[int32](600), RevisionHistoryLimit: ptr.To[int32](10),
		},
	}
	for _, f := range change {
		f(d)
	}
	return d
}

func recreate(d *appsv1.Deployment) {
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
}

func within(surge, unavailable int) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{
			MaxSurge: ptr.To(intstr.FromInt(surge)), MaxUnavailable: ptr.To(intstr.FromInt(unavailable)),
		}
	}
}

// cluster is a model of the API, the ReplicaSet controller and the nodes for one Deployment.
type cluster struct {
	d    *appsv1.Deployment
	sets []*appsv1.ReplicaSet
	now  time.Time
	made int
}

func (c *cluster) names() string {
	var out []string
	for _, rs := range c.sets {
		out = append(out, fmt.Sprintf("%s=%d/%d", rs.Spec.Template.Spec.Containers[0].Image, *rs.Spec.Replicas, rs.Status.AvailableReplicas))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// round runs one round of the controller and stores its outcome.
func (c *cluster) round() *rollout {
	r := newRollout(c.d, c.sets, c.now)
	for _, rs := range r.old {
		r.oldPodsRun = r.oldPodsRun || rs.Status.Replicas > 0
	}
	r.decide()
	for _, rs := range r.all() {
		switch {
		case rs.create:
			c.made++
			created := rs.ReplicaSet.DeepCopy()
			created.UID, created.CreationTimestamp, created.Generation = types.UID(fmt.Sprint("rs", c.made)), metav1.NewTime(c.now), 1
			c.sets = append(c.sets, created)
		case rs.write:
			i := slices.IndexFunc(c.sets, func(have *appsv1.ReplicaSet) bool { return have.Name == rs.Name })
			updated := rs.ReplicaSet.DeepCopy()
			updated.Generation++
			c.sets[i] = updated
		}
		if rs.remove {
			c.sets = slices.DeleteFunc(c.sets, func(have *appsv1.ReplicaSet) bool { return have.Name == rs.Name })
		}
	}
	c.d = r.d.DeepCopy()
	return r
}

// follow lets the ReplicaSet controller and the nodes catch up with one set: all of its Pods are made, and become available
// if healthy.
func (c *cluster) follow(rs *appsv1.ReplicaSet, healthy bool) {
	s := &rs.Status
	s.ObservedGeneration, s.Replicas = rs.Generation, *rs.Spec.Replicas
	s.ReadyReplicas, s.AvailableReplicas = min(s.ReadyReplicas, s.Replicas), min(s.AvailableReplicas, s.Replicas)
	if healthy {
		s.ReadyReplicas, s.AvailableReplicas = s.Replicas, s.Replicas
	}
}

func (c *cluster) followAll() {
	for _, rs := range c.sets {
		c.follow(rs, true)
	}
}

// settle runs rounds until one changes nothing.
func (c *cluster) settle(t *testing.T) {
	t.Helper()
	for range 100 {
		before := c.names()
		c.followAll()
		c.round()
		if st := c.d.Status; before == c.names() && complete(c.d, &st) {
			return
		}
		c.now = c.now.Add(time.Second)
	}
	t.Fatalf("never settles: %s", c.names())
}

func (c *cluster) setImage(image string) {
	c.d.Spec.Template.Spec.Containers[0].Image = image
	c.d.Generation++
}

func TestRollingUpdateStepByStep(t *testing.T) {
	c := &cluster{d: newDeployment(10, "a", within(3, 2)), now: start}
	c.settle(t)
	if got := c.names(); got != "a=10/10" {
		t.Fatalf("after creation: %s", got)
	}
	c.setImage("b")
	c.round()
	if got := c.names(); got != "a=8/10 b=3/0" {
		t.Errorf("first step: %s, want the surge used and what may be missing taken away", got)
	}
	c.followAll()
	c.round()
	if got := c.names(); got != "a=5/8 b=5/3" {
		t.Errorf("second step: %s", got)
	}
	c.settle(t)
	if got := c.names(); got != "a=0/0 b=10/10" {
		t.Errorf("at the end: %s", got)
	}
	if got := c.d.Annotations[revisionAnnotation]; got != "2" {
		t.Errorf("revision %s, want 2", got)
	}
	if cond := condition(&c.d.Status, appsv1.DeploymentProgressing); cond == nil || cond.Reason != reasonAvailable || !strings.HasPrefix(cond.Message, `ReplicaSet "web-`) {
		t.Errorf("condition %+v", cond)
	}
}

func TestReturnToEarlierTemplateKeepsItsHistory(t *testing.T) {
	c := &cluster{d: newDeployment(2, "a"), now: start}
	for _, image := range []string{"a", "b", "a", "b", "a"} {
		c.setImage(image)
		c.settle(t)
	}
	i := slices.IndexFunc(c.sets, func(rs *appsv1.ReplicaSet) bool { return rs.Spec.Template.Spec.Containers[0].Image == "a" })
	if rs := c.sets[i]; rs.Annotations[revisionAnnotation] != "5" || rs.Annotations[historyAnnotation] != "1,3" {
		t.Errorf("annotations %v, want revision 5 after 1,3", rs.Annotations)
	}
}

func TestRecreateWaitsForTheLastOldPod(t *testing.T) {
	c := &cluster{d: newDeployment(3, "a", recreate), now: start}
	c.settle(t)
	c.setImage("b")
	c.round()
	if got := c.names(); got != "a=0/3" {
		t.Fatalf("old Pods first: %s", got)
	}
	c.round()
	if got := c.names(); got != "a=0/3" {
		t.Fatalf("while an old Pod runs: %s", got)
	}
	c.settle(t)
	if got := c.names(); got != "a=0/0 b=3/3" {
		t.Errorf("at the end: %s", got)
	}
}

func TestPausedScalesAndDoesNotRoll(t *testing.T) {
	c := &cluster{d: newDeployment(4, "a"), now: start}
	c.settle(t)
	c.d.Spec.Paused = true
	c.d.Spec.Replicas = ptr.To[int32](6)
	c.setImage("b")
	c.round()
	if got := c.names(); got != "a=6/4" {
		t.Errorf("paused: %s", got)
	}
	if cond := condition(&c.d.Status, appsv1.DeploymentProgressing); cond == nil || cond.Reason != reasonPaused || cond.Status != corev1.ConditionUnknown {
		t.Errorf("condition %+v", cond)
	}
	c.d.Spec.Paused = false
	c.settle(t)
	if got := c.names(); got != "a=0/0 b=6/6" {
		t.Errorf("resumed: %s", got)
	}
}

func TestProportionalScaling(t *testing.T) {
	c := &cluster{d: newDeployment(10, "a", within(3, 2)), now: start}
	c.settle(t)
	c.setImage("b")
	c.round() // a=8 b=3, and the new Pods never become available
	for _, rs := range c.sets {
		c.follow(rs, rs.Spec.Template.Spec.Containers[0].Image == "a")
	}
	c.d.Spec.Replicas = ptr.To[int32](15)
	c.round()
	// 18 may be there: 7 more over 8 and 3, the larger set takes what rounding leaves.
	if got := c.names(); got != "a=13/8 b=5/0" && got != "a=14/8 b=4/0" {
		t.Errorf("scaled up: %s", got)
	}
	if total := *c.sets[0].Spec.Replicas + *c.sets[1].Spec.Replicas; total != 18 {
		t.Errorf("%d replicas, want 15 and a surge of 3", total)
	}
}

func TestProgressDeadline(t *testing.T) {
	c := &cluster{d: newDeployment(1, "a"), now: start}
	c.round()
	r := c.round()
	if r.again <= 0 || r.again > 602*time.Second {
		t.Errorf("looks again after %v, want about the deadline", r.again)
	}
	c.now = c.now.Add(601 * time.Second)
	c.round()
	if cond := condition(&c.d.Status, appsv1.DeploymentProgressing); cond == nil || cond.Status != corev1.ConditionFalse || cond.Reason != reasonTimedOut {
		t.Errorf("condition %+v", cond)
	}
	if r := c.round(); r.again != 0 {
		t.Errorf("looks again after %v although the deadline is over", r.again)
	}
	c.settle(t)
	if cond := condition(&c.d.Status, appsv1.DeploymentProgressing); cond.Status != corev1.ConditionTrue || cond.Reason != reasonAvailable {
		t.Errorf("late success: %+v", cond)
	}
}

func TestHistoryLimit(t *testing.T) {
	c := &cluster{d: newDeployment(1, "a"), now: start}
	c.d.Spec.RevisionHistoryLimit = ptr.To[int32](2)
	for i := range 6 {
		c.setImage(fmt.Sprint("v", i))
		c.settle(t)
	}
	c.followAll()
	c.round()
	if got := c.names(); got != "v3=0/0 v4=0/0 v5=1/1" {
		t.Errorf("kept %s", got)
	}
}

func TestAppendHistoryIsBounded(t *testing.T) {
	list := ""
	for i := range 2000 {
		list = appendHistory(list, fmt.Sprint(i))
	}
	if len(list) > longestHistory || !strings.HasSuffix(list, ",1999") {
		t.Errorf("%d characters, ends in %s", len(list), list[len(list)-10:])
	}
}

// Whatever happens in whatever order, a roll-out never has more Pods than the surge allows, never takes away a Pod that
// would leave fewer available than promised, and ends.
func TestRandomRollouts(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		d := newDeployment(int32(1+rnd.IntN(12)), "v0", within(rnd.IntN(5), rnd.IntN(5)))
		c := &cluster{d: d, now: start}
		c.settle(t)
		version := 0
		for step := range 60 {
			if rnd.IntN(12) == 0 {
				version++
				c.setImage(fmt.Sprint("v", version%4))
			}
			if rs := c.sets[rnd.IntN(len(c.sets))]; rnd.IntN(3) > 0 {
				c.follow(rs, rnd.IntN(2) == 0)
			}
			before := map[string]int32{}
			for _, rs := range c.sets {
				before[rs.Name] = *rs.Spec.Replicas
			}
			c.round()
			surge, missing := bounds(c.d)
			wanted, sum, staying := *c.d.Spec.Replicas, int32(0), int32(0)
			shrunk := false
			for _, rs := range c.sets {
				sum += *rs.Spec.Replicas
				staying += min(*rs.Spec.Replicas, rs.Status.AvailableReplicas)
				shrunk = shrunk || *rs.Spec.Replicas < min(before[rs.Name], rs.Status.AvailableReplicas)
			}
			if sum > wanted+surge {
				t.Fatalf("seed %d step %d: %d Pods, want at most %d: %s", seed, step, sum, wanted+surge, c.names())
			}
			if shrunk && staying < wanted-missing {
				t.Fatalf("seed %d step %d: %d stay available, want at least %d: %s", seed, step, staying, wanted-missing, c.names())
			}
			c.now = c.now.Add(time.Second)
		}
		c.settle(t)
		if got := *c.sets[len(c.sets)-1].Spec.Replicas; len(c.sets) == 1 && got != *c.d.Spec.Replicas {
			t.Fatalf("seed %d: ends with %s", seed, c.names())
		}
	}
}
