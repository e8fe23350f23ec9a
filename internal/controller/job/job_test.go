package job

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/podutil"
)

var start = time.Unix(1_000_000, 0)

func TestIndexes(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int
		want string
		list []int
	}{
		{"", 5, "", []int{0, 1, 2, 3, 4}},
		{"1,3-5,7", 10, "1,3-5,7", []int{0, 2, 6, 8, 9}},
		{"0-2,3", 5, "0-3", []int{4}},
		{"0,1", 3, "0,1", []int{2}},
		{"2-9", 5, "2-4", []int{0, 1}},
		{"x,4-2,-1,3", 5, "3", []int{0, 1, 2, 4}},
		{"7", 5, "", []int{0, 1, 2, 3, 4}},
	} {
		x := parseIndexes(tt.text, tt.n)
		if x.String() != tt.want || !slices.Equal(x.missing(tt.n, tt.n), tt.list) {
			t.Errorf("%q below %d: %q, missing %v; want %q, %v", tt.text, tt.n, x, x.missing(tt.n, tt.n), tt.want, tt.list)
		}
		for i := range tt.n {
			if x.has(i) == slices.Contains(tt.list, i) {
				t.Errorf("%q: has(%d) is %v", tt.text, i, x.has(i))
			}
		}
	}
	if got := setOf(5, 1, 2, 3).union(setOf(4, 9)).String(); got != "1-5,9" {
		t.Errorf("union %q", got)
	}
	if got := parseIndexes("0-5,8", 10).overlap(parseIndexes("3-9", 10)); got != 4 {
		t.Errorf("overlap %d, want 4", got)
	}
}

func TestBackOffDoubles(t *testing.T) {
	var b backOff
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 320, 600, 600, 600} {
		p := ended(fmt.Sprint(i), corev1.PodFailed, start)
		b = b.after(nil, []*corev1.Pod{p})
		if got := b.left(start); got != want*time.Second {
			t.Errorf("after %d failures: %v, want %v s", i+1, got, int64(want))
		}
	}
	if b = b.after([]*corev1.Pod{ended("ok", corev1.PodSucceeded, start)}, nil); b.left(start) != 0 {
		t.Errorf("a success leaves a pause of %v", b.left(start))
	}
}

func ended(name string, phase corev1.PodPhase, at time.Time) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Finalizers: []string{batchv1.JobTrackingFinalizer}},
		Status: corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(at)},
		}}}},
	}
}

func TestFailurePolicy(t *testing.T) {
	policy := &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}},
		{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}},
	}}
	p := ended("p", corev1.PodFailed, start)
	p.Namespace = "ns"
	p.Status.ContainerStatuses[0].Name = "c"
	p.Status.ContainerStatuses[0].State.Terminated.ExitCode = 42
	if v := judge(policy, p); v.failJob != "Container c for pod ns/p failed with exit code 42 matching FailJob rule at index 0" {
		t.Errorf("exit code 42: %+v", v)
	}
	p.Status.ContainerStatuses[0].State.Terminated.ExitCode = 1
	if v := judge(policy, p); !v.counts || v.failJob != "" {
		t.Errorf("exit code 1: %+v", v)
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
	if v := judge(policy, p); v.counts {
		t.Errorf("disrupted: %+v", v)
	}
}

// cluster is a model of the API server, the nodes and the controller's cache for one Job.
type cluster struct {
	t       *testing.T
	rnd     *rand.Rand
	job     *batchv1.Job
	pods    map[types.UID]*corev1.Pod
	cache   map[types.UID]*corev1.Pod // as the controller's watch shows the Pods
	mem     state
	expect  *podcontrol.Expectations
	created int
	// counted are the ends that the model has seen go: what the Job's counts must come to.
	succeeded, failures map[types.UID]bool
	now                 time.Time
}

// Now implements clock.PassiveClock.
func (c *cluster) Now() time.Time { return c.now }

// Since implements clock.PassiveClock.
func (c *cluster) Since(t time.Time) time.Duration { return c.now.Sub(t) }

func newCluster(t *testing.T, seed uint64, job *batchv1.Job) *cluster {
	c := &cluster{t: t, rnd: rand.New(rand.NewPCG(seed, 2)), job: job, now: start,
		pods: map[types.UID]*corev1.Pod{}, cache: map[types.UID]*corev1.Pod{},
		succeeded: map[types.UID]bool{}, failures: map[types.UID]bool{}}
	c.restart()
	return c
}

// restart forgets what the controller knew beyond its caches, which are complete again.
func (c *cluster) restart() {
	c.mem = state{released: map[types.UID]bool{}}
	c.expect = podcontrol.NewExpectations(c)
	for uid := range c.cache {
		delete(c.cache, uid)
	}
	for uid, p := range c.pods {
		c.cache[uid] = p.DeepCopy()
	}
}

// sorted returns the UIDs in order, so that a seed names one history.
func sorted(pods map[types.UID]*corev1.Pod) []types.UID { return slices.Sorted(maps.Keys(pods)) }

// watch brings some of what changed into the cache.
func (c *cluster) watch() {
	for _, uid := range sorted(c.pods) {
		p := c.pods[uid]
		if c.rnd.IntN(3) > 0 {
			c.cache[uid] = p.DeepCopy()
			if !tracked(p) {
				delete(c.mem.released, uid)
			}
		}
	}
	for _, uid := range sorted(c.cache) {
		if c.pods[uid] == nil && c.rnd.IntN(3) > 0 {
			delete(c.cache, uid)
			delete(c.mem.released, uid)
			c.expect.Gone(c.job.UID, uid)
		}
	}
}

// collect removes Pods that are being deleted and have no finalizer.
func (c *cluster) collect() {
	for uid, p := range c.pods {
		if p.DeletionTimestamp != nil && len(p.Finalizers) == 0 {
			delete(c.pods, uid)
		}
	}
}

// crash reports whether the daemon dies here.
func (c *cluster) crash() bool { return c.rnd.IntN(25) == 0 }

func (c *cluster) delete(p *corev1.Pod) {
	if have := c.pods[p.UID]; have != nil && have.DeletionTimestamp == nil {
		have.DeletionTimestamp = ptr.To(metav1.NewTime(c.now))
		c.expect.Deleting(c.job.UID, p.UID, false)
	}
}

// release removes a finalizer. What the Pod's end counts as is noted: what the Job's counts must come to.
func (c *cluster) release(p *corev1.Pod, as map[types.UID]bool) {
	have := c.pods[p.UID]
	if have == nil || !tracked(have) {
		return
	}
	have.Finalizers = nil
	if as != nil {
		as[p.UID] = true
	}
}

// round plays one round of the controller as sync does it. It reports whether the daemon died in it.
func (c *cluster) round() (died bool) {
	var pods []*corev1.Pod
	for _, uid := range sorted(c.cache) {
		pods = append(pods, c.cache[uid].DeepCopy())
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	unseen, going := podcontrol.Settle(c.expect, c.job.UID, pods)
	r := &round{job: c.job.DeepCopy(), now: c.now, pods: pods, released: map[types.UID]bool{}, current: unseen == 0, backOff: c.mem.backOff}
	for _, p := range pods {
		r.current = r.current && !going(p)
	}
	for uid := range c.mem.released {
		r.released[uid] = true
	}
	s := r.plan()
	var o outcome
	remove := func(list []*corev1.Pod, drop bool) {
		for _, p := range list {
			if drop {
				c.release(p, nil)
			}
			c.delete(p)
			o.deleted++
		}
	}
	remove(s.fail, false)
	remove(s.drop, true)
	for _, i := range s.create {
		c.created++
		p := newPod(podcontrol.Owner{Object: c.job, Kind: kind}, c.job, i, r.held[i])
		p.Name, p.UID, p.CreationTimestamp = fmt.Sprint("p", c.created), types.UID(fmt.Sprint("p", c.created)), metav1.NewTime(c.now.Add(time.Duration(c.created)))
		p.Status.Phase = corev1.PodPending
		c.pods[p.UID] = p
		c.expect.Created(c.job.UID, p.UID)
		o.created++
		if c.crash() {
			return true
		}
	}
	a := r.account(s, o)
	c.job.Status = *r.job.Status.DeepCopy()
	if c.crash() {
		return true
	}
	c.mem.backOff = r.newBackOff
	var released []*corev1.Pod
	for _, p := range a.release {
		if c.rnd.IntN(20) == 0 {
			continue // the call fails
		}
		c.mem.released[p.UID] = true
		switch {
		case slices.Contains(c.job.Status.UncountedTerminatedPods.Failed, p.UID):
			c.release(p, c.failures)
		case inBounds(c.job, p) && p.Status.Phase == corev1.PodSucceeded:
			c.release(p, c.succeeded)
		default:
			c.release(p, nil)
		}
		released = append(released, p)
		if c.crash() {
			return true
		}
	}
	changed, _ := r.settle(released, a.more || len(released) < len(a.release))
	if changed {
		c.job.Status = *r.job.Status.DeepCopy()
	}
	return false
}

// live lets Pods get on: start, succeed, fail.
func (c *cluster) live() {
	for _, uid := range sorted(c.pods) {
		p := c.pods[uid]
		if podutil.Ended(p) {
			continue
		}
		switch c.rnd.IntN(4) {
		case 0:
			p.Status.Phase = corev1.PodRunning
		case 1:
			phase := corev1.PodSucceeded
			if c.rnd.IntN(4) == 0 || p.DeletionTimestamp != nil {
				phase = corev1.PodFailed
			}
			e := ended(p.Name, phase, c.now)
			p.Status = e.Status
		}
	}
}

func newJob(rnd *rand.Rand) *batchv1.Job {
	n := int32(1 + rnd.IntN(12))
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "j", Namespace: "ns", UID: "job"},
		Spec: batchv1.JobSpec{
			Completions: &n, Parallelism: ptr.To(int32(1 + rnd.IntN(5))), BackoffLimit: ptr.To(int32(rnd.IntN(30))),
			CompletionMode: ptr.To(batchv1.NonIndexedCompletion),
		},
	}
	if rnd.IntN(2) == 0 {
		j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
		if rnd.IntN(2) == 0 {
			j.Spec.BackoffLimitPerIndex = ptr.To(int32(rnd.IntN(3)))
			j.Spec.BackoffLimit = ptr.To(int32(1 << 30))
		}
	}
	if rnd.IntN(3) == 0 {
		j.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed)
	}
	return j
}

// Whatever is lost, doubled, late or cut off by a crash: counts only grow, each end is counted once, there are never more
// active Pods than the parallelism by what the controller has seen, and the Job ends.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(2000) {
		j := newJob(rand.New(rand.NewPCG(seed, 1)))
		c := newCluster(t, seed, j)
		last := c.job.Status
		for step := 0; !finished(c.job); step++ {
			if step > 20000 {
				t.Fatalf("seed %d: the job never ends: %+v", seed, c.job.Status)
			}
			if c.round() || c.rnd.IntN(60) == 0 {
				c.restart()
			}
			c.collect()
			c.live()
			c.watch()
			c.now = c.now.Add(time.Duration(1+c.rnd.IntN(8)) * time.Second)
			if s := c.job.Status; s.Succeeded < last.Succeeded || s.Failed < last.Failed {
				t.Fatalf("seed %d: counts fell from %d/%d to %d/%d", seed, last.Succeeded, last.Failed, s.Succeeded, s.Failed)
			}
			last = c.job.Status
		}
		s := c.job.Status
		if n := s.UncountedTerminatedPods; len(n.Succeeded)+len(n.Failed) > 0 {
			t.Errorf("seed %d: ended with uncounted Pods %v", seed, n)
		}
		want := len(c.succeeded)
		if indexed(c.job) {
			want = parseIndexes(s.CompletedIndexes, completions(c.job)).count()
		}
		if int(s.Succeeded) != want || int(s.Failed) != len(c.failures) {
			t.Errorf("seed %d: counts %d succeeded and %d failed, want %d and %d", seed, s.Succeeded, s.Failed, want, len(c.failures))
		}
		if isTrue(condition(c.job, batchv1.JobComplete)) && s.Succeeded < *c.job.Spec.Completions {
			t.Errorf("seed %d: complete with %d of %d", seed, s.Succeeded, *c.job.Spec.Completions)
		}
		for _, p := range c.pods {
			if !podutil.Ended(p) && p.DeletionTimestamp == nil {
				t.Errorf("seed %d: Pod %s is left in phase %s", seed, p.Name, p.Status.Phase)
			}
		}
	}
}
