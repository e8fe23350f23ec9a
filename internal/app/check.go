package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"podium.dev/podium/internal/auth/token"
	"podium.dev/podium/internal/preflight"
)

// Least room in a range of Pod addresses: the network's own address, the bridge's, a Pod's and, of IPv4, the
// broadcast's.
const (
	longest4 = 30
	longest6 = 126
)

// CheckMachine returns an error when the node cannot be started on this machine: one that wraps ErrAlreadyRunning when the
// root is in use, or a preflight.Error. It touches nothing but containers of this node that hold the API server's port.
func CheckMachine(ctx context.Context, c Config) error {
	if err := CheckNotRunning(c.Paths); err != nil {
		return err
	}
	if err := endSquatters(ctx, c.Paths, c.Bind); err != nil {
		return err
	}
	return preflight.Check(preflight.Config{Root: c.Paths.Root, Bind: c.Bind})
}

// Check returns an error with a line for each part of the configuration that is impossible on any machine, and what to do about it. It touches nothing.
func (c Config) Check() error {
	var faults []error
	if _, err := netip.ParseAddrPort(c.Bind); err != nil {
		faults = append(faults, fmt.Errorf("--bind %q is not ADDR:PORT with a numeric address; give for example --bind 127.0.0.1:6443", c.Bind))
	}
	if c.NodeName != "" {
		if why := validation.IsDNS1123Subdomain(c.NodeName); len(why) > 0 {
			faults = append(faults, fmt.Errorf("--node-name %q cannot be a node's name: %s", c.NodeName, strings.Join(why, "; ")))
		}
	}
	if c.PodCIDR != "" {
		if _, err := parseCIDRs(c.PodCIDR); err != nil {
			faults = append(faults, fmt.Errorf("--pod-cidr %q: %w; give for example 10.244.0.0/24, or 10.244.0.0/24,fd00:10:244::/64", c.PodCIDR, err))
		}
	}
	if (c.EtcdCertFile == "") != (c.EtcdKeyFile == "") {
		faults = append(faults, errors.New("--etcd-certfile and --etcd-keyfile belong together; give both or none"))
	}
	if _, err := memoryLimit(c.MemoryLimit, 0); err != nil {
		faults = append(faults, fmt.Errorf("--memory-limit %w", err))
	}
	if err := checkAddons(c.Disable); err != nil {
		faults = append(faults, err)
	}
	if n := c.MaxTokenLife; n != 0 && (n < token.MinMaxLife || n > token.MaxMaxLife) {
		faults = append(faults, fmt.Errorf("--service-account-max-token-expiration %v must be between 1 hour and 2^32 seconds; give for example 24h", n))
	}
	return errors.Join(faults...)
}
