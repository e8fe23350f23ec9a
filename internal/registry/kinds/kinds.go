// Package kinds lists every API group and kind that Podium serves.
package kinds

import (
	"podium.dev/podium/internal/registry/apps"
	"podium.dev/podium/internal/registry/autoscaling"
	"podium.dev/podium/internal/registry/batch"
	"podium.dev/podium/internal/registry/certificates"
	"podium.dev/podium/internal/registry/coordination"
	"podium.dev/podium/internal/registry/core"
	"podium.dev/podium/internal/registry/discovery"
	"podium.dev/podium/internal/registry/events"
	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/networking"
	"podium.dev/podium/internal/registry/node"
	"podium.dev/podium/internal/registry/policy"
	"podium.dev/podium/internal/registry/rbac"
	"podium.dev/podium/internal/registry/scheduling"
	"podium.dev/podium/internal/registry/storage"
)

// Groups returns the API groups, in the order of discovery.
func Groups() []kit.Group {
	return []kit.Group{
		core.Group(),
		apps.Group(),
		events.Group(),
		autoscaling.Group(),
		batch.Group(),
		certificates.Group(),
		networking.Group(),
		policy.Group(),
		rbac.Group(),
		storage.Group(),
		scheduling.Group(),
		coordination.Group(),
		node.Group(),
		discovery.Group(),
	}
}

// All returns the kinds of all groups.
func All() []kit.Kind {
	var all []kit.Kind
	for _, g := range Groups() {
		all = append(all, g.Kinds...)
	}
	return all
}
