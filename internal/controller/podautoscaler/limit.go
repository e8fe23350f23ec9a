package podautoscaler

import (
	"math"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

const (
	// downWindow is how far back an autoscaler looks for higher recommendations before it scales down, unless its
	// behavior says otherwise.
	downWindow = 5 * time.Minute
	// An autoscaler without a behavior scales up to the larger of a multiple of the replicas and a fixed number.
	upFactor, upLeast = 2, 4
)

// memory is the recent past of an autoscaler, by which its changes are damped. It is lost when the daemon restarts,
// after which the present number of replicas is the first recommendation.
type memory struct {
	recommended []recommendation
	added       []change
	removed     []change
}

// recommendation is a number of replicas by metrics alone.
type recommendation struct {
	replicas int32
	at       time.Time
}

// change is a number of replicas that were added or removed.
type change struct {
	replicas int32
	at       time.Time
}

// recommend adds a recommendation and forgets those that are older than the window.
func (m *memory) recommend(n int32, now time.Time, window time.Duration) {
	m.recommended = slices.DeleteFunc(m.recommended, func(r recommendation) bool { return r.at.Before(now.Add(-window)) })
	m.recommended = append(m.recommended, recommendation{n, now})
}

// changed records a change of the replicas for the policies of a behavior, and forgets what none of them looks at.
func (m *memory) changed(from, to int32, behavior *autoscalingv2.HorizontalPodAutoscalerBehavior, now time.Time) {
	if behavior == nil {
		return
	}
	var longest int32
	for _, rules := range []*autoscalingv2.HPAScalingRules{behavior.ScaleUp, behavior.ScaleDown} {
		if rules == nil {
			continue
		}
		for _, p := range rules.Policies {
			longest = max(longest, p.PeriodSeconds)
		}
	}
	old := func(c change) bool { return c.at.Before(now.Add(-seconds(longest))) }
	m.added, m.removed = slices.DeleteFunc(m.added, old), slices.DeleteFunc(m.removed, old)
	if to > from {
		m.added = append(m.added, change{to - from, now})
	} else {
		m.removed = append(m.removed, change{from - to, now})
	}
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// window returns the stabilization window of rules, or the default.
func window(rules *autoscalingv2.HPAScalingRules, otherwise time.Duration) time.Duration {
	if rules == nil || rules.StabilizationWindowSeconds == nil {
		return otherwise
	}
	return seconds(*rules.StabilizationWindowSeconds)
}

// highest returns the highest recommendation of the last minutes, n among them, and records n.
func (m *memory) highest(n int32, now time.Time) int32 {
	most := n
	for _, r := range m.recommended {
		if !r.at.Before(now.Add(-downWindow)) {
			most = max(most, r.replicas)
		}
	}
	m.recommend(n, now, downWindow)
	return most
}

// stabilize returns the number of replicas that is nearest to the current one and not more than all recommendations
// of the window for scaling up, nor less than all of the window for scaling down, n among them. It records n.
func (m *memory) stabilize(current, n int32, behavior *autoscalingv2.HorizontalPodAutoscalerBehavior, now time.Time) int32 {
	up, down := window(behavior.ScaleUp, 0), window(behavior.ScaleDown, downWindow)
	least, most := n, n
	for _, r := range m.recommended {
		if r.at.After(now.Add(-up)) {
			least = min(least, r.replicas)
		}
		if r.at.After(now.Add(-down)) {
			most = max(most, r.replicas)
		}
	}
	m.recommend(n, now, max(up, down))
	return min(max(current, least), most)
}

// verdict is the reason and message of the condition ScalingLimited.
type verdict struct{ reason, message string }

var (
	withinRange = verdict{"DesiredWithinRange", "the desired count is within the acceptable range"}
	tooMany     = verdict{"TooManyReplicas", "the desired replica count is more than the maximum replica count"}
	tooFew      = verdict{"TooFewReplicas", "the desired replica count is less than the minimum replica count"}
	tooFastUp   = verdict{"ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"}
	tooFastDown = verdict{"ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"}
)

// limitByDefault bounds a number of replicas for an autoscaler without a behavior.
func limitByDefault(current, n, least, most int32) (int32, verdict) {
	why := tooMany
	if fast := int32(min(max(upFactor*int64(current), upLeast), math.MaxInt32)); most > fast {
		most, why = fast, tooFastUp
	}
	switch {
	case n < least:
		return least, tooFew
	case n > most:
		return most, why
	}
	return n, withinRange
}

// limitByPolicies bounds a number of replicas by the policies of a behavior and by least and most.
func (m *memory) limitByPolicies(current, n, least, most int32, behavior *autoscalingv2.HorizontalPodAutoscalerBehavior, now time.Time) (int32, verdict) {
	switch {
	case n > current:
		why := tooMany
		if fast := max(m.upLimit(current, behavior.ScaleUp, now), current); most > fast {
			most, why = fast, tooFastUp
		}
		if n > most {
			return most, why
		}
	case n < current:
		why := tooFew
		if fast := min(m.downLimit(current, behavior.ScaleDown, now), current); least < fast {
			least, why = fast, tooFastDown
		}
		if n < least {
			return least, why
		}
	}
	return n, withinRange
}

// upLimit returns the most replicas that the policies allow now.
func (m *memory) upLimit(current int32, rules *autoscalingv2.HPAScalingRules, now time.Time) int32 {
	return m.limit(current, rules, now, func(start float64, p autoscalingv2.HPAScalingPolicy) float64 {
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start + float64(p.Value)
		}
		return math.Ceil(start * (1 + float64(p.Value)/100)) // up, so that a small number can grow at all
	}, func(a, b float64) bool { return a > b })
}

// downLimit returns the fewest replicas that the policies allow now.
func (m *memory) downLimit(current int32, rules *autoscalingv2.HPAScalingRules, now time.Time) int32 {
	return m.limit(current, rules, now, func(start float64, p autoscalingv2.HPAScalingPolicy) float64 {
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start - float64(p.Value)
		}
		return math.Trunc(start * (1 - float64(p.Value)/100))
	}, func(a, b float64) bool { return a < b })
}

// limit returns the number of replicas up to which the selected one of the rules' policies allows a change. A policy
// counts from the replicas at the start of its period. further reports whether a is the larger change.
func (m *memory) limit(current int32, rules *autoscalingv2.HPAScalingRules, now time.Time, allowed func(start float64, p autoscalingv2.HPAScalingPolicy) float64, further func(a, b float64) bool) int32 {
	selected := autoscalingv2.MaxChangePolicySelect
	if rules != nil && rules.SelectPolicy != nil {
		selected = *rules.SelectPolicy
	}
	if rules == nil || len(rules.Policies) == 0 || selected == autoscalingv2.DisabledPolicySelect {
		return current
	}
	var out float64
	for i, p := range rules.Policies {
		start := int64(current) - within(m.added, p.PeriodSeconds, now) + within(m.removed, p.PeriodSeconds, now)
		n := allowed(float64(start), p)
		if i == 0 || further(n, out) == (selected == autoscalingv2.MaxChangePolicySelect) {
			out = n
		}
	}
	return int32(min(max(out, math.MinInt32), math.MaxInt32))
}

// within returns how many replicas were changed in a period up to now.
func within(changes []change, period int32, now time.Time) (n int64) {
	for _, c := range changes {
		if c.at.After(now.Add(-seconds(period))) {
			n += int64(c.replicas)
		}
	}
	return n
}
