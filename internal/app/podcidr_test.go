package app

import (
	"slices"
	"testing"

	"podium.dev/podium/internal/paths"
)

func TestPodCIDRsAreKept(t *testing.T) {
	p := paths.For(t.TempDir())
	first, chosen, err := podCIDRs(p, "")
	if err != nil {
		t.Fatal(err)
	}
	again, still, err := podCIDRs(p, "")
	if err != nil || !slices.Equal(first, again) {
		t.Errorf("first %v, then %v, %v", first, again, err)
	}
	if !chosen || still {
		t.Errorf("chosen is %v at first, then %v", chosen, still)
	}
	asked, _, err := podCIDRs(p, "10.99.0.5/24")
	if err != nil || len(asked) != 1 || asked[0].String() != "10.99.0.0/24" {
		t.Errorf("asked: %v, %v", asked, err)
	}
	if again, _, err := podCIDRs(p, ""); err != nil || !slices.Equal(asked, again) {
		t.Errorf("after asking: %v, %v", again, err)
	}
}

func TestPodCIDRsRefused(t *testing.T) {
	for _, text := range []string{"10.1.2.3", "10.0.0.0/24,10.0.1.0/24", "x", "10.0.0.0/24,fd00::/64,fd01::/64"} {
		if got, _, err := podCIDRs(paths.For(t.TempDir()), text); err == nil {
			t.Errorf("%q was taken as %v", text, got)
		}
	}
}
