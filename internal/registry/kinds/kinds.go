// Package kinds lists every kind that Podium serves.
package kinds

import (
	"podium.dev/podium/internal/registry"
	"podium.dev/podium/internal/registry/configmap"
	"podium.dev/podium/internal/registry/endpoints"
	"podium.dev/podium/internal/registry/endpointslice"
	"podium.dev/podium/internal/registry/event"
	"podium.dev/podium/internal/registry/ipaddress"
	"podium.dev/podium/internal/registry/lease"
	"podium.dev/podium/internal/registry/namespace"
	"podium.dev/podium/internal/registry/node"
	"podium.dev/podium/internal/registry/pod"
	"podium.dev/podium/internal/registry/priorityclass"
	"podium.dev/podium/internal/registry/rbac"
	"podium.dev/podium/internal/registry/runtimeclass"
	"podium.dev/podium/internal/registry/secret"
	"podium.dev/podium/internal/registry/service"
	"podium.dev/podium/internal/registry/serviceaccount"
	"podium.dev/podium/internal/registry/servicecidr"
)

// All answers with every kind, each group's together.
func All() []registry.Kind {
	kinds := []registry.Kind{
		configmap.Kind(),
		endpoints.Kind(),
		event.Kind(),
		namespace.Kind(),
		node.Kind(),
		pod.Kind(),
		secret.Kind(),
		service.Kind(),
		serviceaccount.Kind(),

		lease.Kind(),
		endpointslice.Kind(),
		ipaddress.Kind(),
		servicecidr.Kind(),
		runtimeclass.Kind(),
		priorityclass.Kind(),
	}
	return append(kinds, rbac.Kinds()...)
}
