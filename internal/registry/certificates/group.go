// Package certificates describes the API group certificates.k8s.io: certificate requests and trust bundles.
package certificates

import (
	certificatesv1 "k8s.io/api/certificates/v1"

	"podium.dev/podium/internal/registry/certificates/certificatesigningrequest"
	"podium.dev/podium/internal/registry/certificates/clustertrustbundle"
	"podium.dev/podium/internal/registry/kit"
)

// Group returns the group.
func Group() kit.Group {
	return kit.Group{
		Name:     "certificates.k8s.io",
		Priority: 17300,
		Versions: []kit.Version{
			{GroupVersion: certificatesv1.SchemeGroupVersion, AddToScheme: certificatesv1.AddToScheme},
		},
		Kinds: []kit.Kind{
			certificatesigningrequest.Kind(),
			clustertrustbundle.Kind(),
		},
	}
}
