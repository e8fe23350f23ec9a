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
)

// podCIDRs answers with the ranges of the node's Pod addresses: what the user asked for, else what was used
// before, else free ones. They are kept, because Pods that run have addresses of them.
func podCIDRs(p paths.Paths, asked string) ([]netip.Prefix, error) {
	file := filepath.Join(p.Network, "pod-cidrs")
	if asked != "" {
		ranges, err := parseCIDRs(asked)
		if err != nil {
			return nil, fmt.Errorf("--pod-cidr %q: %w; give for example 10.244.0.0/24, or 10.244.0.0/24,fd00:10:244::/64", asked, err)
		}
		return ranges, keepCIDRs(file, ranges)
	}
	text, err := os.ReadFile(file)
	if err == nil {
		if ranges, err := parseCIDRs(strings.TrimSpace(string(text))); err == nil {
			return ranges, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the Pods' addresses used before: %w", err)
	}
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

func parseCIDRs(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, part := range strings.Split(text, ",") {
		r, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, err
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
	part := file + ".part"
	if err := os.WriteFile(part, []byte(strings.Join(texts, ",")+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the Pods' addresses: %w", err)
	}
	return os.Rename(part, file)
}
