package pace

import "testing"

func TestParse(t *testing.T) {
	for text, want := range map[string]float64{"": 1, "5": 5, "2.5": 2.5, "0": 1, "-3": 1, "much": 1, "NaN": 1, "Inf": 1} {
		if got := parse(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
