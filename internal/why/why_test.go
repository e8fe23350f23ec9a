package why

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"podium.dev/podium/internal/scheduler"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// podOf returns a Pod on node n with one container c, which the options change.
func podOf(change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "web", CreationTimestamp: ago(time.Hour)},
		Spec: corev1.PodSpec{
			SchedulerName: corev1.DefaultSchedulerName, NodeName: "n",
			Containers: []corev1.Container{{Name: "c", Image: "registry.test/web:1"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func state(s corev1.ContainerState, last ...corev1.ContainerStateTerminated) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := corev1.ContainerStatus{Name: "c", Image: "registry.test/web:1", State: s}
		if len(last) > 0 {
			c.LastTerminationState.Terminated, c.RestartCount = &last[0], 3
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{c}
	}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func running() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: ago(time.Minute)}}
}

func exit(code int32, reason, message string) corev1.ContainerStateTerminated {
	return corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message, StartedAt: ago(90 * time.Second), FinishedAt: ago(30 * time.Second)}
}

func unplacedPod(cpu, memory string, change ...func(*corev1.Pod)) *corev1.Pod {
	return podOf(append([]func(*corev1.Pod){func(p *corev1.Pod) {
		p.Spec.NodeName = ""
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/2 nodes are available: …", LastTransitionTime: ago(time.Minute),
		}}
	}}, change...)...)
}

func event(reason, message string) corev1.Event {
	return corev1.Event{
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web", FieldPath: "spec.containers{c}"},
		Reason:         reason, Message: message, Count: 4, LastTimestamp: ago(5 * time.Second),
	}
}

func nodeOf(name, cpu, memory string, change ...func(*corev1.Node)) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory), corev1.ResourcePods: resource.MustParse("10"),
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, f := range change {
		f(&n)
	}
	return n
}

func holder(name, node, cpu, memory string) corev1.Pod {
	p := unplacedPod(cpu, memory)
	p.Name, p.UID, p.Spec.NodeName = name, types.UID(name), node
	return *p
}

// TestExplain checks the text of explanations. A part that starts with ! must not be in it.
func TestExplain(t *testing.T) {
	ready := nodeOf("n", "4", "8Gi")
	down := nodeOf("n", "4", "8Gi", func(n *corev1.Node) {
		n.Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", Message: "Kubelet stopped posting node status."}
	})
	tainted := nodeOf("b", "4", "8Gi", func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}}
	})
	for name, tc := range map[string]struct {
		facts Facts
		want  []string
	}{
		"no room": {
			Facts{Pod: unplacedPod("100m", "300Mi"), Cluster: &scheduler.Cluster{
				Nodes: []corev1.Node{nodeOf("a", "4", "512Mi"), tainted},
				Pods:  []corev1.Pod{holder("db", "a", "1", "292Mi"), holder("cache", "a", "1", "100Mi")},
			}},
			[]string{"it has no node: none of 2 fits", "scheduling: Unschedulable (60s ago)", "0/2 nodes are available: …",
				"memory: needs 300Mi, 120Mi free of 512Mi; largest holder: shop/db 292Mi, shop/cache 100Mi",
				"fix: free 180Mi of memory on the node, or request at most 120Mi",
				"taint gpu=yes:NoSchedule is not tolerated", "!cpu:"},
		},
		"too large for any": {
			Facts{Pod: unplacedPod("8", "1Gi"), Cluster: &scheduler.Cluster{Nodes: []corev1.Node{nodeOf("a", "4", "8Gi"), nodeOf("b", "4", "8Gi")}}},
			[]string{"node a, b\n", "needs 8, 4 free of 4", "the node is too small even when empty"},
		},
		"fits by now": {
			Facts{Pod: unplacedPod("1", "1Gi"), Cluster: &scheduler.Cluster{Nodes: []corev1.Node{nodeOf("a", "4", "8Gi"), tainted}}},
			[]string{"would fit 1 node now, such as a", "node a\n    fits now"},
		},
		"the Pod that ended takes no room": {
			Facts{Pod: unplacedPod("3", "1Gi"), Cluster: &scheduler.Cluster{Nodes: []corev1.Node{nodeOf("a", "4", "8Gi")}, Pods: []corev1.Pod{func() corev1.Pod {
				p := holder("done", "a", "4", "1Gi")
				p.Status.Phase = corev1.PodSucceeded
				return p
			}()}}},
			[]string{"fits now"},
		},
		"no nodes": {Facts{Pod: unplacedPod("1", "1Gi"), Cluster: &scheduler.Cluster{}}, []string{"there are no nodes", "podium up"}},
		"room is being made": {
			Facts{Pod: unplacedPod("1", "1Gi", func(p *corev1.Pod) { p.Status.NominatedNodeName = "a" })},
			[]string{"room is being made for it on node a"},
		},
		"scheduling gates": {
			Facts{Pod: unplacedPod("1", "1Gi", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "test.dev/g"}} })},
			[]string{"held back by its scheduling gates", "scheduling test.dev/g: SchedulingGated", `{"spec":{"schedulingGates":null}}`},
		},
		"another scheduler": {
			Facts{Pod: unplacedPod("1", "1Gi", func(p *corev1.Pod) { p.Spec.SchedulerName, p.Status.Conditions = "someone", nil })},
			[]string{`it waits for the scheduler "someone"`},
		},
		"no claim": {
			Facts{Pod: unplacedPod("1", "1Gi", func(p *corev1.Pod) {
				p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "disk"}}}}
			}), Cluster: &scheduler.Cluster{Nodes: []corev1.Node{ready}}},
			[]string{`persistentvolumeclaim "disk" not found`, "fix: create the claim"},
		},
		"waits for room": {
			Facts{Node: &ready, Events: []corev1.Event{event("WaitingForRoom", "Waiting until pods that are ending on the node have given up what they hold: shop/old. Node didn't have enough resource: cpu")},
				Pod: podOf()},
			[]string{"it has node n and does not start", "node n: WaitingForRoom", "shop/old", "fix: it starts by itself"},
		},
		"image not found": {
			Facts{Node: &ready, Pod: podOf(state(waiting("ImagePullBackOff", `Back-off pulling image "registry.test/web:1": ErrImagePull: registry.test/web:1: not found`)))},
			[]string{"it has node n and does not start", "image c: ImagePullBackOff", "not found", "fix: the registry has no such image"},
		},
		"image refused": {
			Facts{Node: &ready, Pod: podOf(state(waiting("ErrImagePull", `failed to authorize: 401 Unauthorized`)))},
			[]string{"401 Unauthorized", "imagePullSecrets"},
		},
		"image never pulled": {
			Facts{Node: &ready, Pod: podOf(state(waiting("ErrImageNeverPull", `Container image "x" is not present with pull policy of Never`)))},
			[]string{"podium image load"},
		},
		"crash loop": {
			Facts{Node: &ready, Pod: podOf(state(waiting("CrashLoopBackOff", "back-off 40s restarting failed container=c pod=web"), exit(3, "Error", "no database")))},
			[]string{"container c: CrashLoopBackOff (30s ago, next in 10s)", "it ended with exit code 3 and was restarted 3 times; it ran for 1m0s", "no database", "the back-off is 40s", "kubectl logs web -n shop -c c --previous"},
		},
		"out of memory": {
			Facts{Node: &ready, Pod: podOf(func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
			}, state(waiting("CrashLoopBackOff", "back-off 10s restarting failed container=c pod=web"), exit(137, "OOMKilled", "")))},
			[]string{"limit c: OOMKilled", "memory limit of 64Mi", "raise resources.limits.memory above 64Mi", "next is due"},
		},
		"missing config map": {
			Facts{Node: &ready, Events: []corev1.Event{event("FailedMount", `MountVolume.SetUp failed for volume "cfg" : configmap "settings" not found`)},
				Sources: map[Source]Keys{{"ConfigMap", "settings"}: {Missing: true}, {"Secret", "token"}: {Names: []string{"a", "b"}}},
				Pod: podOf(state(waiting("ContainerCreating", "")), func(p *corev1.Pod) {
					p.Spec.Volumes = []corev1.Volume{{Name: "cfg", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}}
					p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "cfg", MountPath: "/cfg"}}
					p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "T", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "token"}, Key: "c"}}}}
				})},
			[]string{"volume cfg needs ConfigMap settings, which does not exist", "kubectl create configmap settings -n shop",
				`needs key "c" of Secret token, which has: a, b`, "volume cfg: FailedMount (5s ago)"},
		},
		"readiness": {
			Facts{Node: &ready, Events: []corev1.Event{event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")},
				Pod: podOf(state(running()), func(p *corev1.Pod) {
					p.Status.Phase = corev1.PodRunning
					p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 5, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(80)}}}
				})},
			[]string{"it runs on node n and is not ready", "probe c: Unhealthy", "readiness probe (GET http://:80/ready every 5s, timeout 1s)", "the last result: HTTP probe failed with statuscode: 503 (4 times)"},
		},
		"node is gone": {Facts{Node: &down, Pod: podOf(state(running()))}, []string{"node n: NodeStatusUnknown", "Kubelet stopped posting node status.", "--force"}},
		"finalizer": {
			Facts{Node: &ready, Pod: podOf(func(p *corev1.Pod) {
				at := ago(time.Minute)
				p.DeletionTimestamp, p.Finalizers = &at, []string{"test.dev/hold"}
			})},
			[]string{"it is being deleted", "finalizers", "test.dev/hold"},
		},
		"grace": {
			Facts{Node: &ready, Pod: podOf(state(running()), func(p *corev1.Pod) {
				at, grace := metav1.NewTime(now.Add(100*time.Second)), int64(120)
				p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
			})},
			[]string{"deletion c: Terminating (20s ago, next in 100s)", "the grace period of 120s ends at 12:01:40"},
		},
		"evicted": {
			Facts{Pod: podOf(func(p *corev1.Pod) {
				p.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."}
			})},
			[]string{"it has failed", "pod: Evicted", "low on resource", "relieve the node"},
		},
		"well": {
			Facts{Node: &ready, Pod: podOf(state(running()), func(p *corev1.Pod) {
				p.Status.Phase = corev1.PodRunning
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				p.Status.ContainerStatuses[0].Ready = true
			})},
			[]string{"nothing is in its way"},
		},
		"never made": {
			Facts{Events: []corev1.Event{event("FailedCreate", `Error creating: pods "web-x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2`)},
				Quotas: []corev1.ResourceQuota{{ObjectMeta: metav1.ObjectMeta{Name: "small"}, Status: corev1.ResourceQuotaStatus{
					Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")}, Used: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")},
				}}}},
			[]string{"it was never created", "quota small: FailedCreate", "pods: 2 used of 2"},
		},
		"owner over a limit range": {
			Facts{Owner: &unstructured.Unstructured{Object: map[string]any{
				"kind": "ReplicaSet", "metadata": map[string]any{"name": "web", "namespace": "shop"}, "spec": map[string]any{"replicas": int64(2)},
			}}, Events: []corev1.Event{event("FailedCreate", `Error creating: pods "web-x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi`)},
				Ranges: []corev1.LimitRange{{ObjectMeta: metav1.ObjectMeta{Name: "bounds"}}}},
			[]string{"ReplicaSet shop/web: 2 wanted, 0 Pods are there: the others are refused", "quota bounds", "ask for what the LimitRange allows"},
		},
		"unknown": {Facts{}, []string{"it does not exist", "kubectl get pods -A"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.facts.Now, tc.facts.Namespace, tc.facts.Name = now, "shop", "web"
			var b strings.Builder
			if err := Write(&b, Explain(&tc.facts), now); err != nil {
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

// Many equal nodes are reported once.
func TestManyNodes(t *testing.T) {
	c := &scheduler.Cluster{}
	for i := range 100 {
		c.Nodes = append(c.Nodes, nodeOf("n"+string(rune('a'+i/10))+string(rune('0'+i%10)), "1", "1Gi"))
	}
	for i := range 30 {
		c.Pods = append(c.Pods, holder("p"+string(rune('0'+i)), c.Nodes[i].Name, string(rune('0'+i%10))+"00m", "1Mi"))
	}
	var b strings.Builder
	if err := Write(&b, Explain(&Facts{Pod: unplacedPod("2", "1Mi"), Cluster: c}), now); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n  node "); n > nodesInText || !strings.Contains(b.String(), "further node") {
		t.Errorf("%d nodes told\n%s", n, b.String())
	}
}
