package apiserver

import (
	"testing"
	"time"
)

func TestBeatClock(t *testing.T) {
	c := newBeatClock()
	if got := c.near(beat / 4); got != beat/4 {
		t.Errorf("a short time became %v", got)
	}
	for _, d := range []time.Duration{beat, beat + beat/4, 3 * beat / 2, 10 * beat} {
		before := time.Since(c.start)
		got := c.near(d)
		if got < d-beat/2-beat/10 || got > d+beat/2+beat/10 {
			t.Errorf("%v became %v", d, got)
		}
		off := (before + got) % beat
		if off > beat/2 {
			off = beat - off
		}
		if off > beat/10 {
			t.Errorf("%v ends %v off the beat", d, off)
		}
	}
}
