package main

import (
	"slices"
	"testing"
)

func TestGrown(t *testing.T) {
	before := holdings{Mounts: 2, Goroutines: 1000, Threads: 20, Files: 100, Memory: 100e6}
	same := before
	same.Goroutines, same.Threads, same.Memory = 1000+moreGoroutines, 15, 130e6
	if got := before.grown(same); len(got) > 0 {
		t.Errorf("grown: %v", got)
	}
	after := holdings{Sandboxes: 1, Mounts: 3, Goroutines: 1001 + moreGoroutines, Memory: 131e6}
	want := []string{"1 sandboxes, not 0", "3 mounts, not 2", "1041 goroutines, not 1000", "131 MB, not 100"}
	if got := before.grown(after); !slices.Equal(got, want) {
		t.Errorf("grown: %v", got)
	}
}

func TestLeases(t *testing.T) {
	journal := `{"Last":"10.0.0.2"}
{"Put":{"ID":"a","IPs":["10.0.0.2"]}}
{"Put":{"ID":"b"}}
{"Put":{"ID":"a"}}
{"Drop":"a"}
{"Put":{"ID":"c`
	if got := leases([]byte(journal)); got != 1 {
		t.Errorf("leases: %d", got)
	}
}

func TestGauge(t *testing.T) {
	page := []byte("# TYPE go_goroutines gauge\ngo_goroutines 1312\ngo_goroutines_other 7\n")
	if got := gauge(page, "go_goroutines"); got != 1312 {
		t.Errorf("gauge: %d", got)
	}
}
