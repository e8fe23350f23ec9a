package app

import "testing"

func TestMemoryLimit(t *testing.T) {
	const gib = 1 << 30
	for name, tc := range map[string]struct {
		asked   string
		machine int64
		want    int64
		refused bool
	}{
		"a quarter":          {"", 24 * gib, 6 * gib, false},
		"a small machine":    {"", 2 * gib, gib, false},
		"a very small one":   {"", gib / 2, gib / 2, false},
		"asked for":          {"3Gi", 24 * gib, 3 * gib, false},
		"none":               {"0", 24 * gib, 0, false},
		"what is no amount":  {"much", 24 * gib, 0, true},
		"less than nothing":  {"-1Gi", 24 * gib, 0, true},
		"of unknown machine": {"", 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := memoryLimit(tc.asked, tc.machine)
			if got != tc.want || (err != nil) != tc.refused {
				t.Errorf("got %d, %v, expected %d", got, err, tc.want)
			}
		})
	}
}
