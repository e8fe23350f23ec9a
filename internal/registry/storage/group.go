// Package storage describes the API group storage.k8s.io: storage classes and what CSI drivers report.
package storage

import (
	storagev1 "k8s.io/api/storage/v1"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/storage/csidriver"
	"podium.dev/podium/internal/registry/storage/csinode"
	"podium.dev/podium/internal/registry/storage/csistoragecapacity"
	"podium.dev/podium/internal/registry/storage/storageclass"
	"podium.dev/podium/internal/registry/storage/volumeattachment"
	"podium.dev/podium/internal/registry/storage/volumeattributesclass"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "storage.k8s.io",
		Priority: 16800,
		Versions: []kit.Version{
			{GroupVersion: storagev1.SchemeGroupVersion, AddToScheme: storagev1.AddToScheme},
		},
		Kinds: []kit.Kind{
			csidriver.Kind(),
			csinode.Kind(),
			csistoragecapacity.Kind(),
			storageclass.Kind(),
			volumeattachment.Kind(),
			volumeattributesclass.Kind(),
		},
	}
}
