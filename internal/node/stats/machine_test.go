package stats

import (
	"testing"
	"time"
)

func TestProcParsers(t *testing.T) {
	busy, boot := parseStat([]byte("cpu  100 0 50 900 20 0 10 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nbtime 1700000000\n"))
	if busy != 1_600_000_000 || boot != 1700000000 {
		t.Errorf("stat: %d, %d", busy, boot)
	}
	if n, err := parseLoadavg("1.36 3.49 4.53 2/3518 3715089\n"); n != 3518 || err != nil {
		t.Errorf("loadavg: %d, %v", n, err)
	}
	for _, bad := range []string{"", "1 2 3 4", "1 2 3 x 5", "1 2 3 2/x 5"} {
		if _, err := parseLoadavg(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestReadTasks(t *testing.T) {
	tasks, err := ReadTasks()
	if err != nil || tasks.Running < 1 || tasks.Most <= tasks.Running {
		t.Errorf("got %+v, %v", tasks, err)
	}
}

func TestRateOfProcessors(t *testing.T) {
	start := time.Unix(1000, 0)
	s := sample{}.next(start, 5e9)
	if s.rate != nil {
		t.Errorf("a first sample has the rate %d", *s.rate)
	}
	s = s.next(start.Add(2*time.Second), 6e9)
	if s.rate == nil || *s.rate != 5e8 {
		t.Errorf("a second of two: %v", s.rate)
	}
	if soon := s.next(start.Add(2*time.Second+time.Millisecond), 7e9); soon != s {
		t.Errorf("too soon: %+v", soon)
	}
}

func TestMemoryAvailable(t *testing.T) {
	m := Memory{WorkingSet: 30}
	for _, tc := range []struct{ bound, reserved, want uint64 }{{100, 0, 70}, {100, 50, 20}, {100, 80, 0}, {20, 0, 0}} {
		if m.available(tc.bound, tc.reserved); *m.Available != tc.want {
			t.Errorf("of %d without %d: %d, want %d", tc.bound, tc.reserved, *m.Available, tc.want)
		}
	}
}
