package podautoscaler

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func percentOfCPU(n int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &n},
	}}
}

func memoryOf(each string) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceMemory, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse(each))},
	}}
}

func queue(wanted, each string) autoscalingv2.MetricSpec {
	m := &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "queue"}}
	if wanted != "" {
		m.Target = autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: new(resource.MustParse(wanted))}
	} else {
		m.Target = autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse(each))}
	}
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: m}
}

// scaler returns an autoscaler of 1 to 10 Pods.
func scaler(metrics []autoscalingv2.MetricSpec, change ...func(*autoscalingv2.HorizontalPodAutoscaler)) *autoscalingv2.HorizontalPodAutoscaler {
	a := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", Generation: 1},
		Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: new(int32(1)), MaxReplicas: 10, Metrics: metrics},
	}
	for _, f := range change {
		f(a)
	}
	return a
}

func from(n int32) func(*autoscalingv2.HorizontalPodAutoscaler) {
	return func(a *autoscalingv2.HorizontalPodAutoscaler) { a.Spec.MinReplicas = &n }
}

func byItself(a *autoscalingv2.HorizontalPodAutoscaler) {
	a.Status.Conditions = append(a.Status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{Type: autoscalingv2.ScaledToZero, Status: corev1.ConditionTrue})
}

// ready returns n Pods that have been ready for an hour and request 100m of cpu.
func ready(n int) []*corev1.Pod {
	var out []*corev1.Pod
	for i := range n {
		out = append(out, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
			}}},
			Status: corev1.PodStatus{
				Phase: corev1.PodRunning, StartTime: &metav1.Time{Time: noon.Add(-time.Hour)},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon.Add(-time.Hour))}},
			},
		})
	}
	return out
}

// each returns samples of the Pods p0, p1, … in thousandths.
func each(values ...int64) reading {
	r := reading{samples: samples{}}
	for i, v := range values {
		r.samples[fmt.Sprint("p", i)] = sample{value: v, at: noon, window: 30 * time.Second}
	}
	return r
}

func values(all ...int64) reading { return reading{values: all} }

func repeat(n int, v int64) reading {
	all := make([]int64, n)
	for i := range all {
		all[i] = v
	}
	return each(all...)
}

// take makes a decision, carries it out, and returns the number of replicas after it.
func (r *round) take(current int32, pods []*corev1.Pod, readings ...reading) int32 {
	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: current}, Status: autoscalingv1.ScaleStatus{Replicas: current}}
	if r.begin(scale) {
		t := target{wanted: current, existing: current, pods: pods, now: r.now, tolerances: r.tolerances()}
		if !r.decide(t, readings) {
			return current
		}
	}
	if r.desired == current {
		r.seen(current)
	} else {
		r.scaled()
	}
	return r.desired
}

// words are the conditions and events of a decision in short.
func (r *round) words() string {
	var out []string
	for _, c := range r.a.Status.Conditions {
		out = append(out, fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason))
	}
	for _, e := range r.events {
		out = append(out, fmt.Sprintf("%s: %s", e.reason, e.message))
	}
	return strings.Join(out, "; ")
}

func TestDecisions(t *testing.T) {
	cpu, mib := []autoscalingv2.MetricSpec{percentOfCPU(50)}, int64(1000<<20)
	pods := func(n int, change func([]*corev1.Pod)) []*corev1.Pod {
		all := ready(n)
		change(all)
		return all
	}
	unready := func(p *corev1.Pod, since time.Duration) {
		p.Status.Conditions[0].Status, p.Status.StartTime.Time = corev1.ConditionFalse, noon.Add(-since)
		p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(noon.Add(-since))
	}
	for name, tt := range map[string]struct {
		a        *autoscalingv2.HorizontalPodAutoscaler
		current  int32
		pods     []*corev1.Pod
		readings []reading
		want     int32
		words    string // part of them
	}{
		"cpu above its target":          {scaler(cpu), 2, ready(2), []reading{each(80, 120)}, 4, "SuccessfulRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target"},
		"cpu within the tolerance":      {scaler(cpu), 2, ready(2), []reading{each(54, 54)}, 2, "AbleToScale=True ReadyForNewScale; ScalingActive=True ValidMetricFound; ScalingLimited=False DesiredWithinRange"},
		"a tolerance of its own":        {scaler(cpu, tolerating("0", "0")), 2, ready(2), []reading{each(54, 54)}, 3, "New size: 3"},
		"far too much":                  {scaler(cpu), 2, ready(2), []reading{each(500, 500)}, 4, "ScalingLimited=True ScaleUpLimit"},
		"more than the most":            {scaler(cpu), 6, ready(6), []reading{repeat(6, 100)}, 10, "ScalingLimited=True TooManyReplicas"},
		"less than the least":           {scaler(cpu, from(2), quick), 3, ready(3), []reading{repeat(3, 0)}, 2, "ScalingLimited=True TooFewReplicas"},
		"too many Pods at first":        {scaler(cpu), 3, ready(3), []reading{repeat(3, 10)}, 3, "AbleToScale=True ScaleDownStabilized"},
		"above the bounds":              {scaler(cpu), 12, ready(12), nil, 10, "New size: 10; reason: Current number of replicas above Spec.MaxReplicas"},
		"below the bounds":              {scaler(cpu, from(3)), 1, ready(1), nil, 3, "New size: 3; reason: Current number of replicas below Spec.MinReplicas"},
		"scaled to zero by hand":        {scaler(cpu), 0, nil, nil, 0, "ScalingActive=False ScalingDisabled"},
		"a Pod without a sample, up":    {scaler(cpu), 3, ready(3), []reading{each(100, 100)}, 4, "New size: 4"},
		"a Pod without a sample, down":  {scaler(cpu, quick), 3, ready(3), []reading{each(10, 10)}, 3, "ReadyForNewScale"},
		"a failed Pod":                  {scaler(cpu), 2, pods(3, func(p []*corev1.Pod) { p[2].Status.Phase = corev1.PodFailed }), []reading{each(75, 75, 900)}, 3, "New size: 3"},
		"a pending Pod counts as idle":  {scaler(cpu), 2, pods(2, func(p []*corev1.Pod) { p[1].Status.Phase = corev1.PodPending }), []reading{each(100)}, 2, "ReadyForNewScale"},
		"a Pod that starts":             {scaler(cpu), 2, pods(2, func(p []*corev1.Pod) { unready(p[1], time.Minute) }), []reading{each(150, 900)}, 3, "New size: 3"},
		"a Pod that was never ready":    {scaler(cpu), 2, pods(2, func(p []*corev1.Pod) { unready(p[1], time.Hour) }), []reading{each(150, 900)}, 3, "New size: 3"},
		"only Pods that start":          {scaler(cpu), 1, pods(1, func(p []*corev1.Pod) { unready(p[0], time.Minute) }), []reading{each(900)}, 1, "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)"},
		"no Pods":                       {scaler(cpu), 1, nil, []reading{each(1)}, 1, "failed to get cpu utilization: no pods returned by selector while calculating replica count"},
		"no request":                    {scaler([]autoscalingv2.MetricSpec{withResource(percentOfCPU(50), corev1.ResourceMemory)}), 1, ready(1), []reading{each(1)}, 1, "missing request for memory in container c of Pod p0"},
		"memory by its average":         {scaler([]autoscalingv2.MetricSpec{memoryOf("100Mi")}), 2, ready(2), []reading{each(200*mib, 200*mib)}, 4, "reason: memory resource above target"},
		"no metrics":                    {scaler(cpu), 2, ready(2), []reading{{err: errors.New("no metrics returned from resource metrics API")}}, 2, "FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API"},
		"one of two metrics, up":        {scaler(append(cpu, queue("5", ""))), 2, ready(2), []reading{each(100, 100), {err: errors.New("gone")}}, 4, "ScalingActive=True ValidMetricFound"},
		"one of two metrics, down":      {scaler(append(cpu, queue("5", "")), quick), 2, ready(2), []reading{each(1, 1), {err: errors.New("gone")}}, 2, "ScalingActive=False FailedGetExternalMetric; FailedGetExternalMetric: failed to get external metric queue: gone; FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 2)"},
		"the highest of two metrics":    {scaler(append(cpu, queue("5", ""))), 2, ready(2), []reading{each(75, 75), values(5000, 5000)}, 4, "reason: external metric queue(nil) above target"},
		"an external value":             {scaler([]autoscalingv2.MetricSpec{queue("5", "")}), 2, ready(2), []reading{values(7500)}, 3, "New size: 3"},
		"an external value of each":     {scaler([]autoscalingv2.MetricSpec{queue("", "5")}), 2, ready(2), []reading{values(15000)}, 3, "New size: 3"},
		"an external value beyond all":  {scaler([]autoscalingv2.MetricSpec{queue("", "1m")}), 2, ready(2), []reading{values(1<<62, 1<<62)}, 4, "ScaleUpLimit"},
		"to zero":                       {scaler([]autoscalingv2.MetricSpec{queue("5", "")}, from(0), quick), 2, ready(2), []reading{values(0)}, 0, "ScaledToZero=True ScaledToZero"},
		"from zero":                     {scaler([]autoscalingv2.MetricSpec{queue("5", "")}, from(0), byItself), 0, nil, []reading{values(7500)}, 2, "ScaledToZero=False NotScaledToZero"},
		"from zero by a share":          {scaler([]autoscalingv2.MetricSpec{queue("", "5")}, from(0), byItself), 0, nil, []reading{values(7500)}, 2, "New size: 2"},
		"stays at zero":                 {scaler([]autoscalingv2.MetricSpec{queue("5", "")}, from(0), byItself), 0, nil, []reading{values(0)}, 0, "ReadyForNewScale"},
		"from zero as it may not be 0":  {scaler([]autoscalingv2.MetricSpec{queue("5", "")}, from(3), byItself), 0, nil, []reading{values(0)}, 3, "reason: Current number of replicas below Spec.MinReplicas"},
		"from zero is not for cpu only": {scaler(cpu, from(0), byItself), 0, nil, nil, 0, "ScalingDisabled"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRound(tt.a, &memory{}, noon)
			if got := r.take(tt.current, tt.pods, tt.readings...); got != tt.want || !strings.Contains(r.words(), tt.words) {
				t.Errorf("%d replicas, want %d: %s", got, tt.want, r.words())
			}
			if s := r.a.Status; *s.ObservedGeneration != 1 || s.CurrentReplicas != tt.current {
				t.Errorf("status: %+v", s)
			}
		})
	}
}

func withResource(m autoscalingv2.MetricSpec, name corev1.ResourceName) autoscalingv2.MetricSpec {
	m.Resource.Name = name
	return m
}

// rules returns rules that are as the API server completes them.
func rules(window int32, selected autoscalingv2.ScalingPolicySelect, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, SelectPolicy: &selected, Policies: policies}
}

func podsIn(seconds, n int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: n, PeriodSeconds: seconds}
}

func percentIn(seconds, n int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: n, PeriodSeconds: seconds}
}

func behaving(up, down *autoscalingv2.HPAScalingRules) func(*autoscalingv2.HorizontalPodAutoscaler) {
	return func(a *autoscalingv2.HorizontalPodAutoscaler) {
		a.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: up, ScaleDown: down}
	}
}

func defaultUp() *autoscalingv2.HPAScalingRules {
	return rules(0, autoscalingv2.MaxChangePolicySelect, podsIn(15, 4), percentIn(15, 100))
}

// quick scales down without a stabilization window.
func quick(a *autoscalingv2.HorizontalPodAutoscaler) {
	behaving(defaultUp(), rules(0, autoscalingv2.MaxChangePolicySelect, percentIn(15, 100)))(a)
}

func tolerating(up, down string) func(*autoscalingv2.HorizontalPodAutoscaler) {
	return func(a *autoscalingv2.HorizontalPodAutoscaler) {
		quick(a)
		a.Spec.Behavior.ScaleUp.Tolerance, a.Spec.Behavior.ScaleDown.Tolerance = new(resource.MustParse(up)), new(resource.MustParse(down))
	}
}

// TestBehaviorOverTime lets an external value ask for a number of replicas every 15 seconds.
func TestBehaviorOverTime(t *testing.T) {
	most, least, disabled := autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect
	for name, tt := range map[string]struct {
		behavior  func(*autoscalingv2.HorizontalPodAutoscaler)
		asked, is []int32
	}{
		"no behavior, up":            {nil, []int32{100, 100, 100, 100}, []int32{4, 8, 16, 32}},
		"up by default":              {quick, []int32{100, 100, 100, 100}, []int32{5, 10, 20, 40}},
		"down by default at once":    {quick, []int32{5, 1}, []int32{5, 1}},
		"up by Pods in a minute":     {behaving(rules(0, most, podsIn(60, 2)), nil), []int32{9, 9, 9, 9, 9, 9}, []int32{3, 3, 3, 3, 5, 5}},
		"up by the slower policy":    {behaving(rules(0, least, podsIn(15, 1), percentIn(15, 100)), nil), []int32{9, 9, 9}, []int32{2, 3, 4}},
		"never up":                   {behaving(rules(0, disabled, podsIn(15, 9)), nil), []int32{9, 9}, []int32{1, 1}},
		"up after a window":          {behaving(rules(30, most, podsIn(15, 9)), nil), []int32{5, 6, 7, 8}, []int32{1, 1, 6, 7}},
		"down after a window":        {behaving(defaultUp(), rules(30, most, percentIn(15, 100))), []int32{5, 1, 1, 2, 1, 1}, []int32{5, 5, 1, 2, 2, 1}},
		"down by percents in 30 s":   {behaving(rules(0, most, podsIn(15, 99)), rules(0, most, percentIn(30, 10))), []int32{50, 50, 50, 1, 1, 1}, []int32{50, 50, 50, 45, 45, 40}},
		"down by one Pod at a time":  {behaving(rules(0, most, podsIn(15, 99)), rules(0, least, percentIn(15, 50), podsIn(15, 1))), []int32{9, 9, 1, 1}, []int32{9, 9, 8, 7}},
		"never down":                 {behaving(defaultUp(), rules(0, disabled, percentIn(15, 100))), []int32{4, 1, 1}, []int32{4, 4, 4}},
		"a policy beyond an int32":   {behaving(rules(0, most, podsIn(15, 1<<31-1)), nil), []int32{50, 60}, []int32{50, 60}},
		"a percentage beyond one":    {behaving(rules(0, most, percentIn(15, 1<<31-1)), nil), []int32{50, 60}, []int32{50, 60}},
		"a policy without its rules": {behaving(nil, nil), []int32{5, 1}, []int32{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			a := scaler([]autoscalingv2.MetricSpec{queue("", "1")}, func(a *autoscalingv2.HorizontalPodAutoscaler) { a.Spec.MaxReplicas = 100 })
			if tt.behavior != nil {
				tt.behavior(a)
			}
			m, now, current := &memory{}, noon, int32(1)
			var is []int32
			for _, asked := range tt.asked {
				r := newRound(a, m, now)
				current = r.take(current, ready(int(current)), values(int64(asked)*1000))
				is, now = append(is, current), now.Add(period)
			}
			if fmt.Sprint(is) != fmt.Sprint(tt.is) {
				t.Errorf("asked for %v: %v, want %v", tt.asked, is, tt.is)
			}
		})
	}
}

func TestScaleDownWaitsForFiveMinutesWithoutABehavior(t *testing.T) {
	a, m, now, current := scaler([]autoscalingv2.MetricSpec{queue("", "1")}), &memory{}, noon, int32(4)
	for ; current == 4; now = now.Add(period) {
		r := newRound(a, m, now)
		current = r.take(current, ready(4), values(2000))
		if now.Sub(noon) > time.Hour {
			t.Fatal("still 4 replicas after an hour")
		}
	}
	if waited := now.Add(-period).Sub(noon); current != 2 || waited <= downWindow || waited > downWindow+period {
		t.Errorf("%d replicas after %v", current, waited)
	}
}

func TestAScaleThatCannotBeReadOrWritten(t *testing.T) {
	r := newRound(scaler(nil), &memory{}, noon)
	r.noScale(errors.New(`deployments.apps "x" not found`))
	if got := r.words(); got != `AbleToScale=False FailedGetScale; FailedGetScale: deployments.apps "x" not found` {
		t.Error(got)
	}
	if c := r.a.Status.Conditions[0]; c.Message != `the HPA controller was unable to get the target's current scale: deployments.apps "x" not found` || !c.LastTransitionTime.Time.Equal(noon) {
		t.Errorf("%+v", c)
	}
	r = newRound(scaler(nil, from(3)), &memory{}, noon)
	r.begin(&autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 1}})
	r.notScaled(errors.New("refused"))
	if got := r.words(); got != "AbleToScale=False FailedUpdateScale; FailedRescale: New size: 3; reason: Current number of replicas below Spec.MinReplicas; error: refused" {
		t.Error(got)
	}
}

func TestRequestsOfPods(t *testing.T) {
	request := func(s string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(s)}}
	}
	always := corev1.ContainerRestartPolicyAlways
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "init", Resources: request("9")}, {Name: "sidecar", RestartPolicy: &always, Resources: request("200m")}},
		Containers:     []corev1.Container{{Name: "c", Resources: request("100m")}, {Name: "d", Resources: request("50m")}},
	}}
	for container, want := range map[string]string{
		"": "350 <nil>", "d": "50 <nil>", "sidecar": "200 <nil>", "e": "0 container e not found in Pod p",
	} {
		got, err := requested([]*corev1.Pod{p}, container, corev1.ResourceCPU)
		if s := fmt.Sprint(got["p"], " ", err); s != want {
			t.Errorf("container %q: %s, want %s", container, s, want)
		}
	}
	p.Spec.Resources = new(request("1"))
	if got, err := requested([]*corev1.Pod{p}, "", corev1.ResourceCPU); err != nil || got["p"] != 1000 {
		t.Errorf("of a Pod as a whole: %v, %v", got, err)
	}
}
