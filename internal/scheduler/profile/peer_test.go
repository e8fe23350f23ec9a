package profile_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/oracletest"
	"podium.dev/podium/internal/scheduler/profile"
)

// peerVariable names a kubeconfig of an API server on which only Kubernetes' own scheduler is at work.
const peerVariable = "PODIUM_PEER_KUBECONFIG"

// TestDecisionsAgreeWithKubernetes has Kubernetes' scheduler decide on random Pods in random clusters and
// compares each decision with ours: the node it chose must be among those of our best score, and if it found
// none the message must be the same.
func TestDecisionsAgreeWithKubernetes(t *testing.T) {
	path := os.Getenv(peerVariable)
	if path == "" {
		t.Skipf("%s names no kubeconfig", peerVariable)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p := &peer{T: t, client: client, Random: oracletest.Random{Rand: rand.New(rand.NewPCG(seed, 1))}}
	p.prepare()
	for round := range 25 {
		p.round(round)
	}
	t.Logf("%d placed alike, %d refused alike, %d preempted alike", p.placed, p.refused, p.preempted)
}

type peer struct {
	*testing.T
	oracletest.Random
	client                     kubernetes.Interface
	placed, refused, preempted int
}

// prepare creates the namespaces and priority classes that random Pods use.
func (p *peer) prepare() {
	ctx := p.Context()
	for ns, team := range map[string]string{"s": "red", "t": "blue"} {
		_, err := p.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns, Labels: map[string]string{"team": team}}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			p.Fatal(err)
		}
	}
	for i := range 3 {
		_, err := p.client.SchedulingV1().PriorityClasses().Create(ctx, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)}, Value: int32(i)}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			p.Fatal(err)
		}
	}
}

// clear empties the cluster.
func (p *peer) clear() {
	ctx, zero := p.Context(), int64(0)
	for _, ns := range []string{"s", "t"} {
		if err := p.client.CoreV1().Pods(ns).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{}); err != nil {
			p.Fatal(err)
		}
	}
	if err := p.client.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		p.Fatal(err)
	}
}

func (p *peer) round(round int) {
	ctx := p.Context()
	p.clear()
	for i := range 2 + p.IntN(5) {
		n := p.Node(fmt.Sprint("n", i))
		n.Status.Capacity = n.Status.Allocatable
		taints := n.Spec.Taints
		created, err := p.client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
		if err != nil {
			p.Fatal(err)
		}
		created.Spec.Taints = taints // admission adds one
		if _, err := p.client.CoreV1().Nodes().Update(ctx, created, metav1.UpdateOptions{}); err != nil {
			p.Fatal(err)
		}
	}
	for i := range 14 {
		pod := p.Pod(fmt.Sprintf("r%d-p%d", round, i))
		pod.UID = ""
		pod.Spec.PriorityClassName, pod.Spec.Priority = fmt.Sprint("p", *pod.Spec.Priority), nil
		pod.Spec.Overhead = nil // comes from runtime classes
		p.compare(pod, i > 0)
	}
}

// compare has the Pod decided on and compares the results. The first Pod of a round is not judged, because the
// scheduler may not have seen all nodes yet.
func (p *peer) compare(pod *corev1.Pod, judge bool) {
	ctx := p.Context()
	g, err := p.mirror(ctx)
	if err != nil {
		p.Fatal(err)
	}
	created, err := p.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		p.Fatalf("create %s: %v", pod.Name, err)
	}
	decided := p.wait(ctx, created)
	if decided == nil {
		p.Fatalf("%s was not decided on", pod.Name)
	}
	if !judge {
		return
	}
	g.cache.Update(g.snapshot)
	cycle, whole := g.profile.Begin(framework.NewPodInfo(created), g.snapshot)
	var fitting []*framework.NodeInfo
	if whole == nil {
		fitting, _ = cycle.Find()
	}
	if decided.Spec.NodeName != "" {
		p.samePlace(decided, cycle, fitting)
		return
	}
	refusal := cycle.Refusal(whole, cycle.PostFilter(ctx))
	message := condition(decided)
	switch {
	case refusal.Nominated != "" && decided.Status.NominatedNodeName != "":
		p.preempted++
		if refusal.Nominated == decided.Status.NominatedNodeName && refusal.Message != message {
			p.Errorf("%s:\nKubernetes says %s\nwe say          %s", pod.Name, message, refusal.Message)
		}
	case refusal.Message != message:
		p.Errorf("%s:\nKubernetes says %s\nwe say          %s", pod.Name, message, refusal.Message)
	default:
		p.refused++
	}
	// Delete a refused Pod so that it does not come back into later decisions.
	zero := int64(0)
	_ = p.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
}

func (p *peer) samePlace(decided *corev1.Pod, cycle *profile.Cycle, fitting []*framework.NodeInfo) {
	scores := cycle.Scores(fitting)
	i := slices.IndexFunc(fitting, func(n *framework.NodeInfo) bool { return n.Node.Name == decided.Spec.NodeName })
	if i < 0 {
		p.Errorf("%s: Kubernetes chose %s, which does not fit", decided.Name, decided.Spec.NodeName)
		return
	}
	if best := slices.Max(scores); scores[i] != best {
		text := ""
		for j, n := range fitting {
			text += fmt.Sprintf(" %s=%d", n.Node.Name, scores[j])
		}
		p.Errorf("%s: Kubernetes chose %s, our scores are%s", decided.Name, decided.Spec.NodeName, text)
		return
	}
	p.placed++
}

// mirror builds a rig of the cluster's present state.
func (p *peer) mirror(ctx context.Context) (*rig, error) {
	g := newRig(p)
	nodes, err := p.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range nodes.Items {
		g.addNode(&nodes.Items[i])
	}
	pods, err := p.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range pods.Items {
		if pod := &pods.Items[i]; pod.Spec.NodeName != "" {
			g.cache.SetPod(framework.NewPodInfo(pod))
		}
	}
	return g, nil
}

// wait waits until the Pod has a node or a message.
func (p *peer) wait(ctx context.Context, pod *corev1.Pod) *corev1.Pod {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); <-tick.C {
		got, err := p.client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			p.Fatal(err)
		}
		if got.Spec.NodeName != "" || condition(got) != "" {
			return got
		}
	}
	return nil
}

func condition(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Message
		}
	}
	return ""
}
