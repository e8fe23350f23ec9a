package evict

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// step is a moment of a history: what is available then, and what follows from it.
type step struct {
	at         time.Duration
	memory     int64
	disk       int64
	conditions string
	due        []string
	next       time.Duration // 0 for never
}

func observe(memory, disk int64) Observations {
	of := func(n int64) Observation {
		return Observation{Available: *resource.NewQuantity(n, resource.DecimalSI), Capacity: *resource.NewQuantity(1000, resource.DecimalSI)}
	}
	return Observations{MemoryAvailable: of(memory), NodeFsAvailable: of(disk)}
}

func TestHistories(t *testing.T) {
	const minute = time.Minute
	for name, tc := range map[string]struct {
		thresholds []Threshold
		steps      []step
	}{
		"hard: at once, and the condition stays for the transition period": {
			[]Threshold{{Signal: MemoryAvailable, Value: Value{Quantity: ptr("100")}}},
			[]step{
				{0, 200, 0, "[]", nil, 0},
				{10 * time.Second, 99, 0, "[MemoryPressure]", []string{"memory.available<100"}, 5*minute + 10*time.Second},
				{20 * time.Second, 200, 0, "[MemoryPressure]", nil, 5*minute + 10*time.Second},
				{5*minute + 9*time.Second, 200, 0, "[MemoryPressure]", nil, 5*minute + 10*time.Second},
				{5*minute + 10*time.Second, 200, 0, "[]", nil, 0},
			},
		},
		"soft: the condition at once, the deed after the grace period": {
			[]Threshold{{Signal: MemoryAvailable, Value: Value{Quantity: ptr("100")}, Grace: minute}},
			[]step{
				{0, 99, 0, "[MemoryPressure]", nil, minute},
				{30 * time.Second, 99, 0, "[MemoryPressure]", nil, minute},
				{minute, 99, 0, "[MemoryPressure]", []string{"memory.available<100 for 1m0s"}, 6 * minute},
			},
		},
		"soft: the grace period begins again": {
			[]Threshold{{Signal: MemoryAvailable, Value: Value{Quantity: ptr("100")}, Grace: minute}},
			[]step{
				{0, 99, 0, "[MemoryPressure]", nil, minute},
				{30 * time.Second, 100, 0, "[MemoryPressure]", nil, 5 * minute},
				{40 * time.Second, 99, 0, "[MemoryPressure]", nil, minute + 40*time.Second},
				{minute, 99, 0, "[MemoryPressure]", nil, minute + 40*time.Second},
			},
		},
		"minimum reclaim: due until so much more is there": {
			[]Threshold{{Signal: MemoryAvailable, Value: Value{Quantity: ptr("100")}, MinReclaim: &Value{Quantity: ptr("50")}}},
			[]step{
				{0, 120, 0, "[]", nil, 0},
				{10 * time.Second, 99, 0, "[MemoryPressure]", []string{"memory.available<100 and 50"}, 5*minute + 10*time.Second},
				{20 * time.Second, 120, 0, "[MemoryPressure]", []string{"memory.available<100 and 50"}, 5*minute + 20*time.Second},
				{30 * time.Second, 150, 0, "[MemoryPressure]", nil, 5*minute + 20*time.Second},
				{40 * time.Second, 120, 0, "[MemoryPressure]", nil, 5*minute + 20*time.Second},
			},
		},
		"two at once: memory first": {
			[]Threshold{{Signal: MemoryAvailable, Value: Value{Share: 0.1}}, {Signal: NodeFsAvailable, Value: Value{Quantity: ptr("50")}}},
			[]step{
				{0, 99, 49, "[DiskPressure MemoryPressure]", []string{"memory.available<100‰", "nodefs.available<50"}, 5 * minute},
				{minute, 101, 49, "[DiskPressure MemoryPressure]", []string{"nodefs.available<50"}, 5 * minute},
				{5 * minute, 101, 60, "[DiskPressure]", nil, 6 * minute},
			},
		},
	} {
		s := NewState(tc.thresholds, 5*minute)
		for _, now := range tc.steps {
			v := s.Observe(start.Add(now.at), observe(now.memory, now.disk))
			if got := fmt.Sprint(v.Conditions); got != now.conditions {
				t.Errorf("%s, %v: conditions %s, want %s", name, now.at, got, now.conditions)
			}
			if !slices.Equal(names(v.Due), now.due) {
				t.Errorf("%s, %v: due %v, want %v", name, now.at, names(v.Due), now.due)
			}
			next := time.Time{}
			if now.next != 0 {
				next = start.Add(now.next)
			}
			if !v.Next.Equal(next) {
				t.Errorf("%s, %v: next %v, want %v", name, now.at, v.Next.Sub(start), now.next)
			}
		}
	}
}

func TestRelieved(t *testing.T) {
	s := NewState([]Threshold{
		{Signal: MemoryAvailable, Value: Value{Quantity: ptr("100")}},
		{Signal: NodeFsAvailable, Value: Value{Quantity: ptr("100")}, MinReclaim: &Value{Quantity: ptr("100")}},
	}, time.Minute)
	for _, tc := range []struct {
		memory, disk int64
		want         bool
	}{{100, 200, true}, {99, 200, false}, {100, 199, false}} {
		if got := s.Relieved(observe(tc.memory, tc.disk)); got != tc.want {
			t.Errorf("memory %d, disk %d: %v", tc.memory, tc.disk, got)
		}
	}
}
