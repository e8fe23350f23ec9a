package podautoscaler

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
)

// past is everything that an autoscaler ever asked for and did, by which the invariants are checked.
type past struct {
	asked  []recommendation
	counts []recommendation // the replicas from then on
}

// at returns the replicas at a time.
func (p past) at(when time.Time) int32 {
	n := p.counts[0].replicas
	for _, c := range p.counts {
		if !c.at.After(when) {
			n = c.replicas
		}
	}
	return n
}

// extremes returns the lowest and the highest number that was asked for after a time, n among them.
func (p past) extremes(n int32, after time.Time) (least, most int32) {
	least, most = n, n
	for _, a := range p.asked {
		if a.at.After(after) {
			least, most = min(least, a.replicas), max(most, a.replicas)
		}
	}
	return least, most
}

// allowed reports whether the policies allow the change: one of them must if the largest change counts, else all.
func (p past) allowed(from, to int32, r *autoscalingv2.HPAScalingRules, now time.Time) bool {
	if *r.SelectPolicy == autoscalingv2.DisabledPolicySelect {
		return false
	}
	some, every := false, true
	for _, policy := range r.Policies {
		start, ok := float64(p.at(now.Add(-seconds(policy.PeriodSeconds)))), false
		change := float64(policy.Value)
		if policy.Type == autoscalingv2.PercentScalingPolicy {
			change = start * float64(policy.Value) / 100
		}
		const rounding = 1 // up to a whole Pod
		if to > from {
			ok = float64(to) < start+change+rounding
		} else {
			ok = float64(to) > start-change-rounding
		}
		some, every = some || ok, every && ok
	}
	if *r.SelectPolicy == autoscalingv2.MinChangePolicySelect {
		return every
	}
	return some
}

func randomRules(rnd *rand.Rand) *autoscalingv2.HPAScalingRules {
	selects := []autoscalingv2.ScalingPolicySelect{autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect}
	r := rules(rnd.Int32N(4)*60, selects[min(rnd.IntN(6), 5)%3])
	for range 1 + rnd.IntN(3) {
		if rnd.IntN(2) == 0 {
			r.Policies = append(r.Policies, podsIn(1+rnd.Int32N(120), 1+rnd.Int32N(5)))
		} else {
			r.Policies = append(r.Policies, percentIn(1+rnd.Int32N(120), 1+rnd.Int32N(150)))
		}
	}
	if rnd.IntN(3) == 0 {
		r.Tolerance = new(resource.MustParse("0.3"))
	}
	return r
}

// TestRandomHistories lets random values ask for replicas of random autoscalers at random times, and checks what is
// true of every decision.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		a := scaler([]autoscalingv2.MetricSpec{queue("", "1"), queue("2", "")}, from(1+rnd.Int32N(5)))
		a.Spec.MaxReplicas = *a.Spec.MinReplicas + rnd.Int32N(60)
		if rnd.IntN(4) > 0 {
			behaving(randomRules(rnd), randomRules(rnd))(a)
		}
		m, now, current := &memory{}, noon, *a.Spec.MinReplicas
		p := past{counts: []recommendation{{current, now}}, asked: []recommendation{{current, now}}}
		for range 100 {
			now = now.Add(time.Duration(1 + rnd.Int64N(int64(30*time.Second))))
			readings := []reading{values(rnd.Int64N(80_000)), {err: errors.New("none")}}
			if rnd.IntN(3) > 0 {
				readings[1] = values(rnd.Int64N(40_000))
			}
			r := newRound(a, m, now)
			n := r.take(current, ready(int(current)), readings...)
			a.Status = r.a.Status
			checkDecision(t, seed, a, p, r, current, n, now)
			if r.a.Status.Conditions[1].Status == "True" {
				p.asked = append(p.asked, m.recommended[len(m.recommended)-1])
			}
			if n != current {
				p.counts = append(p.counts, recommendation{n, now})
			}
			if current = n; t.Failed() {
				return
			}
		}
	}
}

func checkDecision(t *testing.T, seed uint64, a *autoscalingv2.HorizontalPodAutoscaler, p past, r *round, from, to int32, now time.Time) {
	t.Helper()
	if to < *a.Spec.MinReplicas || to > a.Spec.MaxReplicas {
		t.Errorf("seed %d: %d replicas are not within %d and %d", seed, to, *a.Spec.MinReplicas, a.Spec.MaxReplicas)
	}
	if to == from {
		return
	}
	asked := r.memory.recommended[len(r.memory.recommended)-1].replicas
	b := a.Spec.Behavior
	if b == nil {
		_, most := p.extremes(asked, now.Add(-downWindow))
		if to > max(2*from, 4) {
			t.Errorf("seed %d: from %d to %d at once", seed, from, to)
		}
		if to < from && to < min(most, a.Spec.MaxReplicas) {
			t.Errorf("seed %d: down to %d while %d were asked for lately", seed, to, most)
		}
		return
	}
	rules := b.ScaleUp
	if to < from {
		rules = b.ScaleDown
	}
	if !p.allowed(from, to, rules, now) {
		t.Errorf("seed %d: from %d to %d, which the policies %+v do not allow; before: %+v", seed, from, to, rules, p.counts)
	}
	least, most := p.extremes(asked, now.Add(-seconds(*rules.StabilizationWindowSeconds)))
	if to > from && to > least {
		t.Errorf("seed %d: up to %d while %d were asked for lately", seed, to, least)
	}
	if to < from && to < min(most, from) {
		t.Errorf("seed %d: down to %d while %d were asked for lately", seed, to, most)
	}
}
