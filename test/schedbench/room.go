package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// rounds is how often each way to make room is measured.
const rounds = 40

// roomWay is a way in which room appears for a waiting Pod.
type roomWay struct {
	name string
	// wants changes the Pod so that it fits no node at first.
	wants func(p *corev1.Pod, round int)
	// before creates the obstacle, room removes it.
	before, room func(ctx context.Context, c *cluster, round int) error
}

var roomWays = []roomWay{
	{"a Pod is deleted", func(p *corev1.Pod, _ int) { pin(p); p.Spec.Containers[0].Resources = requests("3") },
		func(ctx context.Context, c *cluster, i int) error {
			p := podOf(before, "room", i)
			p.Spec.NodeName, p.Spec.Containers[0].Resources = nodeName(0), requests("3")
			return c.create(ctx, p)
		},
		func(ctx context.Context, c *cluster, i int) error {
			zero := int64(0)
			return c.client.CoreV1().Pods(before).Delete(ctx, podOf(before, "room", i).Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
		}},
	{"a node's label is changed", func(p *corev1.Pod, i int) { p.Spec.NodeSelector = map[string]string{"room": fmt.Sprint(i)} },
		nil, func(ctx context.Context, c *cluster, i int) error {
			return c.patchNode(ctx, fmt.Sprintf(`{"metadata":{"labels":{"room":"%d"}}}`, i))
		}},
	{"a taint is removed", func(p *corev1.Pod, _ int) { pin(p) },
		func(ctx context.Context, c *cluster, _ int) error {
			return c.patchNode(ctx, `{"spec":{"taints":[{"key":"room","effect":"NoSchedule"}]}}`)
		},
		func(ctx context.Context, c *cluster, _ int) error {
			return c.patchNode(ctx, `{"spec":{"taints":null}}`)
		}},
}

// pin restricts the Pod to the first node.
func pin(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: nodeName(0)} }

func (c *cluster) patchNode(ctx context.Context, body string) error {
	_, err := c.client.CoreV1().Nodes().Patch(ctx, nodeName(0), types.MergePatchType, []byte(body), metav1.PatchOptions{})
	return err
}

// measureRoom measures the time from the request that makes room to the Pod's binding, as seen by a watch.
func (c *cluster) measureRoom(ctx context.Context) (out []latencies, err error) {
	stop, err := startScheduler(ctx, c.server.Config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop(), c.clear(ctx)) }()
	if err := c.awake(ctx); err != nil {
		return nil, err
	}
	for _, way := range roomWays {
		l := latencies{name: way.name, nodes: c.nodes}
		for i := range rounds {
			took, err := c.makeRoom(ctx, way, i)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", way.name, err)
			}
			l.took = append(l.took, took)
		}
		slices.Sort(l.took)
		out = append(out, l)
	}
	return out, nil
}

func (c *cluster) makeRoom(ctx context.Context, way roomWay, i int) (time.Duration, error) {
	if way.before != nil {
		if err := way.before(ctx, c, i); err != nil {
			return 0, err
		}
	}
	p := podOf(measured, "room", i)
	way.wants(p, i)
	if err := c.create(ctx, p); err != nil {
		return 0, err
	}
	if err := c.refused(ctx, p.Name); err != nil {
		return 0, err
	}
	bound, err := c.watchBindings(ctx)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := way.room(ctx, c, i); err != nil {
		return 0, err
	}
	if _, err := bound.last(ctx, 1); err != nil {
		return 0, err
	}
	took := time.Unix(0, bound.at.Load()).Sub(start)
	return took, c.client.CoreV1().Pods(measured).Delete(ctx, p.Name, metav1.DeleteOptions{})
}

// refused waits until the Pod's condition reports that no node fits.
func (c *cluster) refused(ctx context.Context, name string) error {
	w, err := c.client.CoreV1().Pods(measured).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return err
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		p, ok := e.Object.(*corev1.Pod)
		if ok && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Reason == corev1.PodReasonUnschedulable }) {
			return nil
		}
	}
	return fmt.Errorf("the watch of Pod %s ended before it was refused", name)
}
