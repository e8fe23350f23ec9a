package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"

	"podium.dev/podium/internal/scheduler"
	"podium.dev/podium/internal/scheduler/cache"
	"podium.dev/podium/internal/scheduler/framework"
	"podium.dev/podium/internal/scheduler/plugins"
	"podium.dev/podium/internal/scheduler/profile"
	"podium.dev/podium/internal/scheduler/queue"
)

// aloneSizes are the numbers of nodes, alonePods the numbers of Pods on podsNodes nodes, over which the growth
// of the cost is measured.
var (
	aloneSizes = []int{100, 300, 1000, 3000, 5000, 10_000}
	alonePods  = []int{0, 1000, 5000, 20_000, 50_000}
)

const podsNodes = 5000

// most bounds the decisions of one figure. warm decisions before them are not counted.
const most, warm = 2000, 20

// measureAlone measures decisions without an API server and without a queue.
func measureAlone(ctx context.Context, o options, r *results) error {
	for i := range workloads {
		w := &workloads[i]
		if o.only != "" && o.only != w.name {
			continue
		}
		for _, n := range aloneSizes {
			took, err := w.decide(ctx, n, w.before(n), o.limit)
			if err != nil {
				return fmt.Errorf("%s on %d nodes: %w", w.name, n, err)
			}
			r.alone = append(r.alone, decisions{w.name, n, w.before(n), took})
		}
		if w.preempts || w.most != nil {
			continue // the workload determines the number of Pods
		}
		for _, pods := range alonePods {
			took, err := w.decide(ctx, podsNodes, pods, o.limit)
			if err != nil {
				return fmt.Errorf("%s with %d Pods: %w", w.name, pods, err)
			}
			r.byPods = append(r.byPods, decisions{w.name, podsNodes, pods, took})
		}
	}
	return nil
}

// decide makes decisions in a cluster of n nodes and returns how long each took.
func (w *workload) decide(ctx context.Context, n, there int, limit time.Duration) ([]time.Duration, error) {
	b, err := newBench(n)
	if err != nil {
		return nil, err
	}
	for i := range there {
		p := w.first(i)
		p.Spec.NodeName = nodeName(i % n)
		b.cache.SetPod(framework.NewPodInfo(p))
	}
	count := most
	if w.most != nil {
		count = min(count, w.most(n))
	}
	b.cache.Update(b.snapshot)
	runtime.GC()
	var took []time.Duration
	for i, start := 0, time.Now(); i < count && (i < 2*warm || time.Since(start) < limit) && ctx.Err() == nil; i++ {
		info := framework.NewPodInfo(w.measure(i))
		at := time.Now()
		node, err := b.decide(ctx, info, w.preempts)
		if err != nil {
			return nil, err
		}
		if i >= min(warm, count/2) {
			took = append(took, time.Since(at))
		}
		if node != "" {
			p := *info.Pod
			p.Spec.NodeName = node
			b.cache.SetPod(framework.NewPodInfo(&p))
		}
	}
	slices.Sort(took)
	return took, ctx.Err()
}

// bench makes decisions on a cluster in memory.
type bench struct {
	cache    *cache.Cache
	snapshot *framework.Snapshot
	profile  *profile.Profile
}

// unlabeled are namespaces without labels.
type unlabeled struct{}

func (unlabeled) Labels(string) labels.Set { return nil }

func newBench(nodes int) (*bench, error) {
	b := &bench{cache: cache.New(), snapshot: framework.NewSnapshot()}
	var enabled []profile.Enabled
	for _, p := range scheduler.DefaultPlugins() {
		plugin, err := plugins.New(p.Name, nil, plugins.Dependencies{
			Namespaces: unlabeled{},
			Siblings:   func(*corev1.Pod) labels.Selector { return labels.Everything() },
			Budgets:    func() []*policyv1.PodDisruptionBudget { return nil },
			Preempt:    func(p plugins.Preemption) { p.Finish() },
		})
		if err != nil {
			return nil, err
		}
		enabled = append(enabled, profile.Enabled{Plugin: plugin, Weight: p.Weight})
	}
	var err error
	b.profile, err = profile.New(corev1.DefaultSchedulerName, 0, queue.NewNominated(), enabled)
	for i := range nodes {
		b.cache.SetNode(nodeOf(i))
	}
	return b, err
}

// decide finds the Pod a node. A Pod that preempts gets none.
func (b *bench) decide(ctx context.Context, pod *framework.PodInfo, preempts bool) (string, error) {
	b.cache.Update(b.snapshot)
	cycle, whole := b.profile.Begin(pod, b.snapshot)
	if whole != nil {
		return "", fmt.Errorf("refused: %s", whole.Message())
	}
	fitting, failed := cycle.Find()
	if failed != nil {
		return "", failed.Err
	}
	if !preempts {
		if len(fitting) == 0 {
			return "", fmt.Errorf("refused: %s", cycle.Refusal(nil, framework.PostFilter{}).Message)
		}
		return cycle.Choose(fitting).Node.Name, nil
	}
	if len(fitting) > 0 {
		return "", fmt.Errorf("the Pod fits without a preemption")
	}
	if post := cycle.PostFilter(ctx); post.Nominated == "" {
		return "", fmt.Errorf("no preemption: %s", post.Message)
	}
	return "", nil
}
