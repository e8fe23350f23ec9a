package podautoscaler

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"podium.dev/podium/internal/podutil"
)

// The times that a starting Pod is given, which are Kubernetes' defaults.
const (
	// cpuInitialization is the time after its start during which a Pod's use of cpu says little about its load.
	cpuInitialization = 5 * time.Minute
	// initialReadiness is the time after its start during which a change of a Pod's readiness is taken for the first.
	initialReadiness = 30 * time.Second
)

// pods are Pods in groups: how many are ready, and the names of the others.
type pods struct {
	ready                     int
	unready, missing, ignored map[string]bool
}

// groupPods sorts Pods by what their samples are worth. Ended and deleted Pods are ignored; a Pod is missing if it
// has no sample.
func groupPods(all []*corev1.Pod, s samples, cpu bool, now time.Time) pods {
	g := pods{unready: map[string]bool{}, missing: map[string]bool{}, ignored: map[string]bool{}}
	for _, pod := range all {
		one, ok := s[pod.Name]
		switch {
		case pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed:
			g.ignored[pod.Name] = true
		case pod.Status.Phase == corev1.PodPending:
			g.unready[pod.Name] = true
		case !ok:
			g.missing[pod.Name] = true
		case cpu && starting(pod, one, now):
			g.unready[pod.Name] = true
		default:
			g.ready++
		}
	}
	return g
}

func readiness(pod *corev1.Pod) *corev1.PodCondition { return podutil.Condition(pod, corev1.PodReady) }

// starting reports whether a sample of cpu may be of a Pod's start instead of its work. Early in its life that is
// so while it is not ready, and until a whole window was measured since it became so; later only if it was never
// ready.
func starting(pod *corev1.Pod, s sample, now time.Time) bool {
	c := readiness(pod)
	if c == nil || pod.Status.StartTime == nil {
		return true
	}
	unready := c.Status == corev1.ConditionFalse
	if pod.Status.StartTime.Add(cpuInitialization).After(now) {
		return unready || s.at.Before(c.LastTransitionTime.Add(s.window))
	}
	return unready && pod.Status.StartTime.Add(initialReadiness).After(c.LastTransitionTime.Time)
}

// requested returns how much of a resource each Pod requests in thousandths: the named container of it, or all of
// it if the name is empty. It returns an error if a Pod has no such request.
func requested(all []*corev1.Pod, container string, resource corev1.ResourceName) (map[string]int64, error) {
	out := make(map[string]int64, len(all))
	for _, pod := range all {
		var err error
		if container == "" && resourcehelper.IsPodLevelRequestsSet(pod) {
			request, ok := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})[resource]
			if !ok {
				return nil, fmt.Errorf("missing pod-level request for %s in Pod %s", resource, pod.Name)
			}
			out[pod.Name] = request.MilliValue()
		} else if out[pod.Name], err = requestedByContainers(pod, container, resource); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// requestedByContainers counts the containers that run as long as the Pod does, also those among the init containers.
func requestedByContainers(pod *corev1.Pod, container string, resource corev1.ResourceName) (int64, error) {
	running := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if podutil.IsSidecar(&c) {
			running = append(running, c)
		}
	}
	var total int64
	for _, c := range running {
		if container != "" && c.Name != container {
			continue
		}
		request, ok := c.Resources.Requests[resource]
		if !ok {
			return 0, fmt.Errorf("missing request for %s in container %s of Pod %s", resource, c.Name, pod.Name)
		}
		if container != "" {
			return request.MilliValue(), nil
		}
		total += request.MilliValue()
	}
	if container != "" {
		return 0, fmt.Errorf("container %s not found in Pod %s", container, pod.Name)
	}
	return total, nil
}
