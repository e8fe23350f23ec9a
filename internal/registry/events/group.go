// Package events describes the API group events.k8s.io: the newer form of events; the kind is that of core/event.
package events

import (
	eventsv1 "k8s.io/api/events/v1"

	"podium.dev/podium/internal/registry/kit"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "events.k8s.io",
		Priority: 17750,
		Versions: []kit.Version{
			{GroupVersion: eventsv1.SchemeGroupVersion, AddToScheme: eventsv1.AddToScheme},
		},
	}
}
