package why

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

// owner returns an object of a kind as Facts holds it.
func owner(t *testing.T, kind string, o any) *unstructured.Unstructured {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	out := &unstructured.Unstructured{Object: content}
	out.SetKind(kind)
	return out
}

// podFacts returns the facts about a running Pod.
func podFacts(name string, ready corev1.ConditionStatus, since time.Duration) *Facts {
	node := nodeOf("n", "4", "8Gi")
	p := podOf(state(running()), func(p *corev1.Pod) {
		p.Name = name
		p.Status.Phase = corev1.PodRunning
		p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: ago(since)}}
		p.Status.ContainerStatuses[0].Ready = ready == corev1.ConditionTrue
	})
	return &Facts{Now: now, Namespace: "shop", Name: name, Pod: p, Node: &node}
}

var named = metav1.ObjectMeta{Name: "web", Namespace: "shop", Generation: 2}

// Each kind says in its own terms why it goes no further. A part that starts with ! must not be in the text.
func TestExplainWorkload(t *testing.T) {
	for name, tc := range map[string]struct {
		kind   string
		object any
		pods   []*Facts
		events []corev1.Event
		want   []string
	}{
		"paused Deployment": {
			kind:   "Deployment",
			object: &appsv1.Deployment{ObjectMeta: named, Spec: appsv1.DeploymentSpec{Paused: true, Replicas: ptr.To[int32](1)}, Status: appsv1.DeploymentStatus{ObservedGeneration: 2}},
			pods:   []*Facts{podFacts("web-1", "True", time.Hour)},
			want:   []string{"1 Pod is there; see below", "rollout: DeploymentPaused", "kubectl rollout resume deployment/web -n shop", "!NotObserved"},
		},
		"Deployment past its deadline": {
			kind: "Deployment",
			object: &appsv1.Deployment{ObjectMeta: named, Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](2)}, Status: appsv1.DeploymentStatus{
				ObservedGeneration: 1, Replicas: 3, UpdatedReplicas: 1,
				Conditions: []appsv1.DeploymentCondition{{
					Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: `ReplicaSet "web-5" has timed out progressing.`, LastUpdateTime: ago(time.Minute),
				}},
			}},
			pods: []*Facts{podFacts("web-5-a", "False", time.Hour), podFacts("web-4-a", "True", time.Hour), podFacts("web-4-b", "True", time.Hour)},
			want: []string{"3 Pods are there, 1 with findings", "rollout: ProgressDeadlineExceeded (60s ago)", "has timed out progressing", "rollout undo deployment/web",
				"1 of 2 Pods have the present template, 2 are of an older one", "generation 2, observed 1", "Pod shop/web-5-a"},
		},
		"refusals of the past are not told": {
			kind:   "ReplicaSet",
			object: &appsv1.ReplicaSet{ObjectMeta: named, Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](1)}, Status: appsv1.ReplicaSetStatus{ObservedGeneration: 2}},
			pods:   []*Facts{podFacts("web-1", "True", time.Hour)},
			events: []corev1.Event{event("FailedCreate", "Error creating: exceeded quota: small")},
			want:   []string{"1 Pod is there: nothing is in the way", "!quota"},
		},
		"minReadySeconds": {
			kind:   "Deployment",
			object: &appsv1.Deployment{ObjectMeta: named, Spec: appsv1.DeploymentSpec{MinReadySeconds: 60, Replicas: ptr.To[int32](1)}, Status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1}},
			pods:   []*Facts{podFacts("web-1", "True", 20*time.Second)},
			want:   []string{"rollout: MinReadySeconds (next in 40s)", "1 Pod is ready, and available after spec.minReadySeconds (60 s)"},
		},
		"StatefulSet in order": {
			kind:   "StatefulSet",
			object: &appsv1.StatefulSet{ObjectMeta: named, Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](12)}, Status: appsv1.StatefulSetStatus{ObservedGeneration: 2}},
			pods:   []*Facts{podFacts("web-10", "False", time.Hour), podFacts("web-9", "False", time.Hour), podFacts("web-0", "True", time.Hour)},
			want:   []string{"12 wanted, 3 Pods are there", "rollout web-9: OrderedReady", "Pod web-9 is not ready, and Pods are made one after the other"},
		},
		"StatefulSet with a partition": {
			kind: "StatefulSet",
			object: &appsv1.StatefulSet{ObjectMeta: named, Spec: appsv1.StatefulSetSpec{
				Replicas: ptr.To[int32](1), UpdateStrategy: appsv1.StatefulSetUpdateStrategy{RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To[int32](3)}},
			}, Status: appsv1.StatefulSetStatus{ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 1, CurrentRevision: "a", UpdateRevision: "b"}},
			pods: []*Facts{podFacts("web-0", "True", time.Hour)},
			want: []string{"rollout: Partition", "3 Pods have an older template: only ordinals from 3 on are updated"},
		},
		"DaemonSet without a node": {
			kind:   "DaemonSet",
			object: &appsv1.DaemonSet{ObjectMeta: named, Status: appsv1.DaemonSetStatus{ObservedGeneration: 2}},
			want:   []string{"scheduling: NoNode", "no node is right for it"},
		},
		"DaemonSet that is updated by hand": {
			kind: "DaemonSet",
			object: &appsv1.DaemonSet{ObjectMeta: named, Spec: appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}}, Status: appsv1.DaemonSetStatus{
				ObservedGeneration: 2, DesiredNumberScheduled: 1,
			}},
			pods:   []*Facts{podFacts("web-1", "True", time.Hour)},
			events: []corev1.Event{event("FailedDaemonPod", "Found failed daemon pod shop/web-0 on node n, will try to kill it")},
			want:   []string{"rollout: OnDelete", "1 Pod has an older template, and this DaemonSet updates a Pod only when it is deleted", "pod: FailedDaemonPod"},
		},
		"failed Job": {
			kind: "Job",
			object: &batchv1.Job{ObjectMeta: named, Status: batchv1.JobStatus{Failed: 7, Conditions: []batchv1.JobCondition{{
				Type: batchv1.JobFailed, Status: "True", Reason: "BackoffLimitExceeded", Message: "Job has reached the specified backoff limit",
			}}}},
			want: []string{"it has failed: 0 succeeded, 7 failed", "job: BackoffLimitExceeded", "spec.backoffLimit"},
		},
		"suspended Job": {
			kind:   "Job",
			object: &batchv1.Job{ObjectMeta: named, Spec: batchv1.JobSpec{Suspend: ptr.To(true)}},
			want:   []string{"it is suspended", `kubectl patch job web -n shop -p '{"spec":{"suspend":false}}'`},
		},
		"Job that goes on": {
			kind: "Job",
			object: &batchv1.Job{ObjectMeta: named, Spec: batchv1.JobSpec{Parallelism: ptr.To[int32](3), Completions: ptr.To[int32](5), ActiveDeadlineSeconds: ptr.To[int64](600)}, Status: batchv1.JobStatus{
				Succeeded: 4, Failed: 2, StartTime: ptr.To(ago(time.Minute)),
			}},
			want: []string{"1 wanted, 0 Pods are there", "2 Pods have failed (spec.backoffLimit: 6)", "job: Deadline (next in 9m)", "ends it at 12:09:00"},
		},
		"Job that waits after a failure that a rule ignores": {
			kind:   "Job",
			object: &batchv1.Job{ObjectMeta: named, Spec: batchv1.JobSpec{BackoffLimit: ptr.To[int32](0)}},
			pods:   []*Facts{failedPod("web-1")},
			want:   []string{"1 wanted, 0 Pods are there", "1 Pod has failed (spec.backoffLimit: 0); the wait before the next doubles", "!is the controller"},
		},
		"Job with a limit for each index": {
			kind:   "Job",
			object: &batchv1.Job{ObjectMeta: named, Spec: batchv1.JobSpec{BackoffLimit: ptr.To[int32](math.MaxInt32), BackoffLimitPerIndex: ptr.To[int32](2)}, Status: batchv1.JobStatus{Failed: 3}},
			want:   []string{"3 Pods have failed (spec.backoffLimitPerIndex: 2)", "!2147483647"},
		},
		"Job that waits for the end of a Pod": {
			kind:   "Job",
			object: &batchv1.Job{ObjectMeta: named, Spec: batchv1.JobSpec{PodReplacementPolicy: ptr.To(batchv1.Failed)}},
			pods:   []*Facts{goingPod("web-1")},
			want:   []string{"1 Pod is terminating; spec.podReplacementPolicy is Failed", "!is the controller"},
		},
		"suspended CronJob": {
			kind:   "CronJob",
			object: &batchv1.CronJob{ObjectMeta: named, Spec: batchv1.CronJobSpec{Schedule: "0 0 * * *", Suspend: ptr.To(true), ConcurrencyPolicy: batchv1.ForbidConcurrent}, Status: batchv1.CronJobStatus{Active: []corev1.ObjectReference{{Name: "web-1"}}, LastScheduleTime: ptr.To(ago(time.Hour))}},
			events: []corev1.Event{event("UnknownTimeZone", `invalid timeZone: "Mars"`)},
			want:   []string{"it made its last Job 60m ago, 1 is active", "job: Suspended", "job web-1: ForbidConcurrent", "job: UnknownTimeZone (5s ago)", "Mars"},
		},
		"budget that allows none": {
			kind: "PodDisruptionBudget",
			object: &policyv1.PodDisruptionBudget{ObjectMeta: named, Status: policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 2, CurrentHealthy: 1, DesiredHealthy: 2, ExpectedPods: 2, Conditions: []metav1.Condition{{
				Type: policyv1.DisruptionAllowedCondition, Status: "False", Reason: policyv1.InsufficientPodsReason,
			}}}},
			want: []string{"0 Pods may be evicted now: 1 healthy, 2 must stay, of 2 expected", "pod: InsufficientPods", "make its Pods ready"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Facts{Now: now, Namespace: "shop", Name: "web", Owner: owner(t, tc.kind, tc.object), Pods: tc.pods, Events: tc.events}
			var b strings.Builder
			if err := Write(&b, Explain(f), now); err != nil {
				t.Fatal(err)
			}
			for _, part := range tc.want {
				unwanted, not := strings.CutPrefix(part, "!")
				if not == strings.Contains(b.String(), unwanted) {
					t.Errorf("want %q in\n%s", part, b.String())
				}
			}
		})
	}
}

// Pods that wait for the same are told of once.
func TestEqualPodsAreWrittenOnce(t *testing.T) {
	e := Explanation{Kind: "Deployment", Namespace: "shop", Name: "web", Verdict: "6 Pods are there, 6 with findings"}
	for i, name := range []string{"web-a", "web-b", "web-c", "web-d", "web-e", "web-f"} {
		e.Pods = append(e.Pods, Explanation{Kind: "Pod", Namespace: "shop", Name: name, Verdict: "it does not start", Findings: []Finding{
			{About: AboutPod, Reason: "Slow", Message: "see kubectl logs " + name, Since: ptr.To(ago(time.Duration(i) * time.Second))},
		}})
	}
	e.Pods[3].Verdict = "it has ended"
	var b strings.Builder
	if err := Write(&b, e, now); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Count(got, "Pod shop/") != 2 || !strings.Contains(got, "the same holds for 4 further Pods: web-b, web-c, web-e, web-f\n") {
		t.Errorf("text:\n%s", got)
	}
}

// Of many Pods those in trouble are read, and all are counted.
func TestWorstPodsAreRead(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 9 {
		pods = append(pods, podFacts(fmt.Sprint("ready-", i), "True", time.Hour).Pod)
	}
	pods = append(pods, failedPod("failed").Pod, podFacts("unready", "False", time.Hour).Pod)
	read, further := worst(pods, 3)
	if len(read) != 3 || read[0].Name != "unready" || read[1].Name != "failed" || len(further) != 8 {
		t.Errorf("read %s, %s, … and left %d", read[0].Name, read[1].Name, len(further))
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](1000)}, Status: appsv1.DeploymentStatus{Replicas: 1000, UpdatedReplicas: 1000}}
	e := Explain(&Facts{Now: now, Namespace: "shop", Name: "web", Owner: owner(t, "Deployment", d), FurtherPods: 1000})
	if e.Verdict != "1000 Pods are there: nothing is in the way" {
		t.Errorf("verdict %q", e.Verdict)
	}
}

func failedPod(name string) *Facts {
	f := podFacts(name, "False", time.Hour)
	f.Pod.Status.Phase = corev1.PodFailed
	return f
}

func goingPod(name string) *Facts {
	f := podFacts(name, "True", time.Hour)
	f.Pod.DeletionTimestamp = ptr.To(ago(time.Second))
	return f
}
