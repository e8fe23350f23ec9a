package app

import (
	"strings"
	"testing"
)

func TestDisable(t *testing.T) {
	for _, tc := range []struct {
		disable []string
		without []string
		fault   string
	}{
		{disable: nil},
		{disable: []string{"dns"}, without: []string{AddonDNS}},
		{disable: []string{"dns", "loadbalancer"}, without: []string{AddonDNS, AddonLoadBalancer}},
		{disable: []string{"dns", "DNS"}, fault: `--disable "DNS" is not a part that can be left out; give one or more of dns, loadbalancer`},
		{disable: []string{""}, fault: `--disable "" is not`},
	} {
		c := Config{Bind: "127.0.0.1:6443", Disable: tc.disable}
		err := c.Check()
		if tc.fault != "" {
			if err == nil || !strings.Contains(err.Error(), tc.fault) {
				t.Errorf("%q: got %v, want %s", tc.disable, err, tc.fault)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tc.disable, err)
		}
		var without []string
		for _, addon := range Addons() {
			if !c.Has(addon) {
				without = append(without, addon)
			}
		}
		if strings.Join(without, " ") != strings.Join(tc.without, " ") {
			t.Errorf("%q: the cluster is without %q, want %q", tc.disable, without, tc.without)
		}
	}
}
