package podautoscaler

import (
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// sample is what a Pod has of a metric, in thousandths.
type sample struct {
	value  int64
	at     time.Time
	window time.Duration
}

// samples are the samples of Pods by name.
type samples map[string]sample

// tolerances are how far the ratio of usage to target may be from 1 without a change.
type tolerances struct{ down, up float64 }

func (t tolerances) within(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// replicas rounds a number of replicas up and keeps it within what the API can express.
func replicas(n float64) int32 {
	switch n = math.Ceil(n); {
	case math.IsNaN(n) || n <= 0:
		return 0
	case n >= math.MaxInt32:
		return math.MaxInt32
	}
	return int32(n)
}

// target is what is scaled, as the calculations see it.
type target struct {
	wanted, existing int32 // spec.replicas and status.replicas of the scale
	pods             []*corev1.Pod
	now              time.Time
	tolerances       tolerances
}

var errNoPods = errors.New("no pods returned by selector while calculating replica count")

// usage is how much of its target a metric is.
type usage struct {
	ratio   float64
	percent int32 // of the Pods' requests; only of a utilization
	average int64
}

// perPod is a metric that every Pod has a value of.
type perPod struct {
	samples samples
	cpu     bool // a cpu metric, which a starting Pod distorts
	// measure returns the usage according to samples of some of the Pods.
	measure func(samples) (usage, error)
	// assumed returns the value that a Pod without a sample is assumed to have when there may be too many Pods.
	assumed func(pod string) int64
}

// replicas returns how many Pods bring the metric to its target, and the present usage. Pods that are not ready or
// have no sample count only against a change: as idle if there are too few Pods, as busy if there are too many.
func (t target) replicas(m perPod) (int32, usage, error) {
	group := groupPods(t.pods, m.samples, m.cpu, t.now)
	known := samples{}
	for name, s := range m.samples {
		if !group.ignored[name] && !group.unready[name] {
			known[name] = s
		}
	}
	if len(known) == 0 {
		return 0, usage{}, errors.New("did not receive metrics for targeted pods (pods might be unready)")
	}
	present, err := m.measure(known)
	if err != nil {
		return 0, usage{}, err
	}
	fewer, more := present.ratio < 1, present.ratio > 1
	if (!more || len(group.unready) == 0) && len(group.missing) == 0 {
		if t.tolerances.within(present.ratio) {
			return t.wanted, present, nil
		}
		return replicas(present.ratio * float64(group.ready)), present, nil
	}
	for name := range group.missing {
		switch {
		case fewer:
			known[name] = sample{value: m.assumed(name)}
		case more:
			known[name] = sample{}
		}
	}
	if more {
		for name := range group.unready {
			known[name] = sample{}
		}
	}
	cautious, err := m.measure(known)
	if err != nil {
		return 0, present, err
	}
	if t.tolerances.within(cautious.ratio) || fewer && cautious.ratio > 1 || more && cautious.ratio < 1 {
		return t.wanted, present, nil
	}
	n := replicas(cautious.ratio * float64(len(known)))
	if cautious.ratio < 1 && n > t.wanted || cautious.ratio > 1 && n < t.wanted {
		return t.wanted, present, nil
	}
	return n, present, nil
}

// byUtilization returns the replicas that bring the use of a resource to a percentage of the Pods' requests, or of
// one container's.
func (t target) byUtilization(s samples, resource corev1.ResourceName, container string, percent int32) (int32, usage, error) {
	if len(t.pods) == 0 {
		return 0, usage{}, errNoPods
	}
	var requests map[string]int64
	return t.replicas(perPod{
		samples: s,
		cpu:     resource == corev1.ResourceCPU,
		measure: func(s samples) (usage, error) {
			if requests == nil {
				var err error
				if requests, err = requested(t.pods, container, resource); err != nil {
					return usage{}, err
				}
			}
			return utilization(s, requests, percent)
		},
		assumed: func(pod string) int64 { return requests[pod] * int64(max(100, percent)) / 100 },
	})
}

// byAverage returns the replicas that bring the average value of a metric to the wanted one.
func (t target) byAverage(s samples, cpu bool, wanted int64) (int32, usage, error) {
	if len(t.pods) == 0 {
		return 0, usage{}, errNoPods
	}
	return t.replicas(perPod{
		samples: s,
		cpu:     cpu,
		measure: func(s samples) (usage, error) { return average(s, wanted), nil },
		assumed: func(string) int64 { return wanted },
	})
}

func utilization(s samples, requests map[string]int64, percent int32) (usage, error) {
	var used, wanted, pods int64
	for name, one := range s {
		if request, ok := requests[name]; ok {
			used, wanted, pods = used+one.value, wanted+request, pods+1
		}
	}
	if wanted == 0 {
		return usage{}, errors.New("no metrics returned matched known pods")
	}
	now := int32(min(used*100/wanted, math.MaxInt32))
	return usage{ratio: float64(now) / float64(percent), percent: now, average: used / pods}, nil
}

func average(s samples, wanted int64) usage {
	var sum int64
	for _, one := range s {
		sum += one.value
	}
	mean := sum / int64(len(s))
	return usage{ratio: float64(mean) / float64(wanted), average: mean}
}

// byValue returns the replicas that bring a value, to which all Pods contribute, to the wanted one. Without replicas
// there is nothing to compare with: any value above 0 needs some.
func (t target) byValue(value, wanted int64) (int32, error) {
	ratio := float64(value) / float64(wanted)
	if t.wanted == 0 {
		return replicas(ratio), nil
	}
	if t.tolerances.within(ratio) {
		return t.wanted, nil
	}
	if len(t.pods) == 0 {
		return 0, fmt.Errorf("unable to calculate ready pods: %w", errNoPods)
	}
	ready := 0
	for _, pod := range t.pods {
		if c := readiness(pod); pod.Status.Phase == corev1.PodRunning && c != nil && c.Status == corev1.ConditionTrue {
			ready++
		}
	}
	return replicas(ratio * float64(ready)), nil
}

// byShare returns the replicas of which each has the wanted share of a value, and the present share.
func (t target) byShare(value, wanted int64) (n int32, share int64) {
	if t.existing == 0 {
		return replicas(float64(value) / float64(wanted)), value
	}
	n = t.existing
	if !t.tolerances.within(float64(value) / (float64(wanted) * float64(n))) {
		n = replicas(float64(value) / float64(wanted))
	}
	share = value / int64(t.existing)
	if value%int64(t.existing) > 0 {
		share++
	}
	return n, share
}

// sum adds up values, no further than what an int64 can hold.
func sum(values []int64) int64 {
	var total int64
	for _, v := range values {
		if v > 0 && total > math.MaxInt64-v {
			return math.MaxInt64
		}
		total += v
	}
	return total
}
