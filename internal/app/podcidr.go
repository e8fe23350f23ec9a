package app

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"podium.dev/podium/internal/network"
	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/util/atomicfile"
)

// podCIDRs returns the ranges of the node's Pod addresses: what the user asked for, else what was used
// before, else free ones, which are chosen just now. They are kept, because Pods that run have addresses of them.
func podCIDRs(p paths.Paths, asked string) (ranges []netip.Prefix, chosen bool, err error) {
	file := cidrFile(p)
	if asked != "" {
		ranges, err := parseCIDRs(asked)
		if err != nil {
			return nil, false, fmt.Errorf("--pod-cidr %q: %w; give for example 10.244.0.0/24, or 10.244.0.0/24,fd00:10:244::/64", asked, err)
		}
		return ranges, false, keepCIDRs(file, ranges)
	}
	text, err := os.ReadFile(file)
	if err == nil {
		if ranges, err := parseCIDRs(strings.TrimSpace(string(text))); err == nil {
			return ranges, false, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, false, fmt.Errorf("read the Pods' addresses used before: %w", err)
	}
	ranges, err = chooseCIDRs(file)
	return ranges, true, err
}

func cidrFile(p paths.Paths) string { return filepath.Join(p.Network, "pod-cidrs") }

// chooseCIDRs returns ranges that are free, and keeps them.
func chooseCIDRs(file string) ([]netip.Prefix, error) {
	v4, err := network.FreeCIDR()
	if err != nil {
		return nil, err
	}
	ranges := []netip.Prefix{v4}
	v6, err := network.FreeCIDR6()
	if err != nil {
		return nil, err
	}
	if v6.IsValid() {
		ranges = append(ranges, v6)
	}
	return ranges, keepCIDRs(file, ranges)
}

// openNetwork makes the network. Where another node of the machine, started at the same time, has taken the range that
// was chosen for this one, another is chosen.
func (d *daemon) openNetwork() (*network.Network, error) {
	api, err := d.apiPort()
	if err != nil {
		return nil, err
	}
	for {
		n, err := network.New(network.Config{
			Paths: d.c.Paths, PodCIDRs: d.podCIDRs, ServiceIP: serviceIP, APIServer: d.api, Own: []network.OwnPort{api},
		})
		if !d.cidrsChosen || !errors.Is(err, network.ErrRangeTaken) {
			return n, err
		}
		if d.podCIDRs, err = chooseCIDRs(cidrFile(d.c.Paths)); err != nil {
			return nil, err
		}
	}
}

func parseCIDRs(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, part := range strings.Split(text, ",") {
		r, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, errors.New("it is not ADDRESS/BITS")
		}
		if r.Bits() > longest6 || r.Addr().Is4() && r.Bits() > longest4 {
			return nil, fmt.Errorf("%s has no room for a Pod", r)
		}
		if len(out) > 0 && out[0].Addr().Is4() == r.Addr().Is4() || len(out) > 1 {
			return nil, errors.New("at most one range of each family")
		}
		out = append(out, r.Masked())
	}
	return out, nil
}

func keepCIDRs(file string, ranges []netip.Prefix) error {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := atomicfile.Write(file, []byte(strings.Join(texts, ",")+"\n"), 0o600, atomicfile.PowerCut); err != nil {
		return fmt.Errorf("keep the Pods' addresses: %w", err)
	}
	return nil
}
