package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// idle is a script that runs until it is asked to end.
const idle = "trap 'exit 0' TERM; while true; do sleep 1 & wait; done"

// templateOf returns a Pod template of one container that runs the script.
func templateOf(app, script string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}}, Spec: shellPod("", script).Spec}
}

func selectorOf(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

// podsOf returns the Pods of an app that are not being deleted, by name.
func (s *space) podsOf(app string) map[string]*corev1.Pod {
	s.Helper()
	list, err := s.node.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		s.Fatal(err)
	}
	out := map[string]*corev1.Pod{}
	for i := range list.Items {
		p := &list.Items[i]
		s.uids[string(p.UID)] = p.Name
		if p.DeletionTimestamp == nil {
			out[p.Name] = p
		}
	}
	return out
}

func TestDeploymentRollsOutAndBack(t *testing.T) {
	s := newSpace(t)
	one := intstr.FromInt32(1)
	d, err := s.node.client.AppsV1().Deployments(s.ns).Create(s.ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](3), Selector: selectorOf("web"), Template: templateOf("web", idle),
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &one, MaxUnavailable: &one}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rolledOut := func(revision string) {
		t.Helper()
		s.eventually("revision "+revision+" is rolled out", func() error {
			if d, err = s.node.client.AppsV1().Deployments(s.ns).Get(s.ctx, "web", metav1.GetOptions{}); err != nil {
				return err
			}
			st := d.Status
			if d.Annotations["deployment.kubernetes.io/revision"] != revision || st.ObservedGeneration < d.Generation || st.Replicas != 3 || st.UpdatedReplicas != 3 || st.AvailableReplicas != 3 {
				return fmt.Errorf("revision %s, status %+v", d.Annotations["deployment.kubernetes.io/revision"], st)
			}
			return nil
		})
	}
	rolledOut("1")
	first := s.podsOf("web")
	for name := range first {
		if parts := strings.Split(name, "-"); len(parts) != 3 || parts[0] != "web" || first[name].Labels["pod-template-hash"] != parts[1] {
			t.Errorf("Pod %s: want web-HASH-RANDOM", name)
		}
	}
	s.kubectl("set", "env", "deploy/web", "A=b")
	rolledOut("2")
	s.kubectl("rollout", "undo", "deploy/web")
	rolledOut("3")
	for name, p := range s.podsOf("web") {
		if hash := p.Labels["pod-template-hash"]; !strings.Contains(slices.Collect(maps.Keys(first))[0], hash) {
			t.Errorf("Pod %s has not the first template", name)
		}
	}
	s.kubectl("scale", "deploy/web", "--replicas=0")
	s.eventually("all Pods are gone", func() error {
		if left := s.podsOf("web"); len(left) > 0 {
			return fmt.Errorf("%d are left", len(left))
		}
		return nil
	})
}

func TestStatefulSetComesUpInOrder(t *testing.T) {
	s := newSpace(t)
	_, err := s.node.client.AppsV1().StatefulSets(s.ns).Create(s.ctx, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](3), ServiceName: "db", Selector: selectorOf("db"), Template: templateOf("db", "hostname; "+idle),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ready := func(revision func(*appsv1.StatefulSet) bool) {
		t.Helper()
		s.eventually("all members are ready", func() error {
			set, err := s.node.client.AppsV1().StatefulSets(s.ns).Get(s.ctx, "db", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if st := set.Status; st.ObservedGeneration < set.Generation || st.ReadyReplicas != 3 || st.UpdatedReplicas != 3 || !revision(set) {
				return fmt.Errorf("status %+v", st)
			}
			return nil
		})
	}
	ready(func(*appsv1.StatefulSet) bool { return true })
	pods := s.podsOf("db")
	for i := range 3 {
		name := fmt.Sprintf("db-%d", i)
		p := pods[name]
		if p == nil {
			t.Fatalf("there is no %s among %v", name, slices.Sorted(maps.Keys(pods)))
		}
		if log := strings.TrimSpace(s.kubectl("logs", name)); log != name {
			t.Errorf("the host name of %s is %q", name, log)
		}
		if i > 0 {
			before := readyAt(pods[fmt.Sprintf("db-%d", i-1)])
			if p.CreationTimestamp.Time.Before(before) {
				t.Errorf("%s was created at %v, before its predecessor was ready at %v", name, p.CreationTimestamp, before)
			}
		}
	}
	s.kubectl("set", "env", "sts/db", "A=b")
	ready(func(set *appsv1.StatefulSet) bool { return set.Status.CurrentRevision == set.Status.UpdateRevision })
	for name, p := range s.podsOf("db") {
		if p.UID == pods[name].UID {
			t.Errorf("%s was not replaced", name)
		}
	}
}

func TestDaemonSetRunsOnTheNode(t *testing.T) {
	s := newSpace(t)
	_, err := s.node.client.AppsV1().DaemonSets(s.ns).Create(s.ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"}, Spec: appsv1.DaemonSetSpec{Selector: selectorOf("agent"), Template: templateOf("agent", idle)},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	available := func() error {
		ds, err := s.node.client.AppsV1().DaemonSets(s.ns).Get(s.ctx, "agent", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if st := ds.Status; st.ObservedGeneration < ds.Generation || st.NumberAvailable != 1 || st.UpdatedNumberScheduled != 1 {
			return fmt.Errorf("status %+v", st)
		}
		return nil
	}
	s.eventually("the daemon runs", available)
	first := slices.Sorted(maps.Keys(s.podsOf("agent")))
	s.kubectl("set", "env", "ds/agent", "A=b")
	s.eventually("the daemon is replaced", func() error {
		if now := slices.Sorted(maps.Keys(s.podsOf("agent"))); slices.Equal(now, first) {
			return fmt.Errorf("still %v", now)
		}
		return available()
	})
}

// awaitJob waits until the Job has ended and returns it.
func (s *space) awaitJob(name string) *batchv1.Job {
	s.Helper()
	var j *batchv1.Job
	s.eventually("job "+name+" has ended", func() (err error) {
		if j, err = s.node.client.BatchV1().Jobs(s.ns).Get(s.ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		for _, c := range j.Status.Conditions {
			if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("status %+v", j.Status)
	})
	s.podsOf(name)
	return j
}

// jobOf returns a Job whose Pods run the script once.
func jobOf(name, script string, change ...func(*batchv1.JobSpec)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{Template: templateOf(name, script)}}
	j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	for _, f := range change {
		f(&j.Spec)
	}
	return j
}

func TestJobsEnd(t *testing.T) {
	s := newSpace(t)
	for _, j := range []*batchv1.Job{
		jobOf("indexed", "echo $JOB_COMPLETION_INDEX $(hostname)", func(j *batchv1.JobSpec) {
			j.Completions, j.Parallelism, j.CompletionMode = ptr.To[int32](4), ptr.To[int32](2), ptr.To(batchv1.IndexedCompletion)
		}),
		jobOf("failing", "exit 3", func(j *batchv1.JobSpec) { j.BackoffLimit = ptr.To[int32](0) }),
	} {
		if _, err := s.node.client.BatchV1().Jobs(s.ns).Create(s.ctx, j, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.awaitJob("indexed").Status; st.Succeeded != 4 || st.CompletedIndexes != "0-3" || st.CompletionTime == nil {
		t.Errorf("indexed: %+v", st)
	}
	for name := range s.podsOf("indexed") {
		index := strings.Split(name, "-")[1]
		if got, want := strings.TrimSpace(s.kubectl("logs", name)), index+" indexed-"+index; got != want {
			t.Errorf("Pod %s says %q, want %q", name, got, want)
		}
	}
	st := s.awaitJob("failing").Status
	if last := st.Conditions[len(st.Conditions)-1]; st.Failed != 1 || last.Type != batchv1.JobFailed || last.Reason != batchv1.JobReasonBackoffLimitExceeded {
		t.Errorf("failing: %+v", st)
	}
}

// A Job whose daemon is killed again and again counts every completion once and repeats none.
func TestJobOverKilledDaemons(t *testing.T) {
	s := newSpaceOn(t, ownNode(t))
	const n = 12
	job := jobOf("work", "sleep 1", func(j *batchv1.JobSpec) { j.Completions, j.Parallelism = ptr.To[int32](n), ptr.To[int32](3) })
	if _, err := s.node.client.BatchV1().Jobs(s.ns).Create(s.ctx, job, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, after := range []int32{2, 6} {
		s.eventually(fmt.Sprintf("%d have succeeded", after), func() error {
			j, err := s.node.client.BatchV1().Jobs(s.ns).Get(s.ctx, "work", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if j.Status.Succeeded < after {
				return fmt.Errorf("%d have", j.Status.Succeeded)
			}
			return nil
		})
		s.node.kill(t)
		if err := s.node.up(); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.awaitJob("work").Status; st.Succeeded != n || st.Failed != 0 {
		t.Errorf("status %+v", st)
	}
	if pods := s.podsOf("work"); len(pods) != n {
		t.Errorf("%d Pods were made for %d completions", len(pods), n)
	}
}

// readyAt returns when the Pod became ready.
func readyAt(p *corev1.Pod) time.Time {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}
