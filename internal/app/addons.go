package app

import (
	"fmt"
	"slices"
	"strings"
)

// Addons are the parts of a cluster that its user may bring himself, and that --disable leaves out.
const (
	// AddonDNS is CoreDNS with the Service kube-dns, and the setting of the node by which Pods use it.
	AddonDNS = "dns"
	// AddonLoadBalancer gives Services of the type LoadBalancer the addresses of the nodes.
	AddonLoadBalancer = "loadbalancer"
)

// Addons returns the names that --disable knows, in alphabetical order.
func Addons() []string { return []string{AddonDNS, AddonLoadBalancer} }

// Has reports whether this cluster runs the add-on, one of Addons.
func (c Config) Has(addon string) bool { return !slices.Contains(c.Disable, addon) }

// checkAddons returns an error that names the first of the names that is no add-on's.
func checkAddons(names []string) error {
	for _, name := range names {
		if !slices.Contains(Addons(), name) {
			return fmt.Errorf("--disable %q is not a part that can be left out; give one or more of %s, separated by commas", name, strings.Join(Addons(), ", "))
		}
	}
	return nil
}
