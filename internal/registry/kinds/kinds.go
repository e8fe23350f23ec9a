// Package kinds lists every kind that Podium serves.
package kinds

import (
	"slices"

	"podium.dev/podium/internal/registry"
	"podium.dev/podium/internal/registry/certificatesigningrequest"
	"podium.dev/podium/internal/registry/clustertrustbundle"
	"podium.dev/podium/internal/registry/configmap"
	"podium.dev/podium/internal/registry/controllerrevision"
	"podium.dev/podium/internal/registry/cronjob"
	"podium.dev/podium/internal/registry/csidriver"
	"podium.dev/podium/internal/registry/csinode"
	"podium.dev/podium/internal/registry/csistoragecapacity"
	"podium.dev/podium/internal/registry/daemonset"
	"podium.dev/podium/internal/registry/deployment"
	"podium.dev/podium/internal/registry/endpoints"
	"podium.dev/podium/internal/registry/endpointslice"
	"podium.dev/podium/internal/registry/event"
	"podium.dev/podium/internal/registry/horizontalpodautoscaler"
	"podium.dev/podium/internal/registry/ingress"
	"podium.dev/podium/internal/registry/ingressclass"
	"podium.dev/podium/internal/registry/ipaddress"
	"podium.dev/podium/internal/registry/job"
	"podium.dev/podium/internal/registry/lease"
	"podium.dev/podium/internal/registry/limitrange"
	"podium.dev/podium/internal/registry/namespace"
	"podium.dev/podium/internal/registry/networkpolicy"
	"podium.dev/podium/internal/registry/node"
	"podium.dev/podium/internal/registry/persistentvolume"
	"podium.dev/podium/internal/registry/persistentvolumeclaim"
	"podium.dev/podium/internal/registry/pod"
	"podium.dev/podium/internal/registry/poddisruptionbudget"
	"podium.dev/podium/internal/registry/podtemplate"
	"podium.dev/podium/internal/registry/priorityclass"
	"podium.dev/podium/internal/registry/rbac"
	"podium.dev/podium/internal/registry/replicaset"
	"podium.dev/podium/internal/registry/replicationcontroller"
	"podium.dev/podium/internal/registry/resourcequota"
	"podium.dev/podium/internal/registry/runtimeclass"
	"podium.dev/podium/internal/registry/secret"
	"podium.dev/podium/internal/registry/service"
	"podium.dev/podium/internal/registry/serviceaccount"
	"podium.dev/podium/internal/registry/servicecidr"
	"podium.dev/podium/internal/registry/statefulset"
	"podium.dev/podium/internal/registry/storageclass"
	"podium.dev/podium/internal/registry/volumeattachment"
	"podium.dev/podium/internal/registry/volumeattributesclass"
)

// All returns every kind, grouped by API group.
func All() []registry.Kind {
	return slices.Concat(core(), apps(), batch(), networking(), storage(), rbac.Kinds(), []registry.Kind{
		certificatesigningrequest.Kind(),
		clustertrustbundle.Kind(),
		horizontalpodautoscaler.Kind(),
		lease.Kind(),
		poddisruptionbudget.Kind(),
		priorityclass.Kind(),
		runtimeclass.Kind(),
	})
}

func core() []registry.Kind {
	return []registry.Kind{
		configmap.Kind(),
		endpoints.Kind(),
		event.Kind(),
		limitrange.Kind(),
		namespace.Kind(),
		node.Kind(),
		persistentvolume.Kind(),
		persistentvolumeclaim.Kind(),
		pod.Kind(),
		podtemplate.Kind(),
		replicationcontroller.Kind(),
		resourcequota.Kind(),
		secret.Kind(),
		service.Kind(),
		serviceaccount.Kind(),
	}
}

func apps() []registry.Kind {
	return []registry.Kind{
		controllerrevision.Kind(),
		daemonset.Kind(),
		deployment.Kind(),
		replicaset.Kind(),
		statefulset.Kind(),
	}
}

func networking() []registry.Kind {
	return []registry.Kind{
		endpointslice.Kind(),
		ingress.Kind(),
		ingressclass.Kind(),
		ipaddress.Kind(),
		networkpolicy.Kind(),
		servicecidr.Kind(),
	}
}

func batch() []registry.Kind {
	return []registry.Kind{
		cronjob.Kind(),
		job.Kind(),
	}
}

func storage() []registry.Kind {
	return []registry.Kind{
		csidriver.Kind(),
		csinode.Kind(),
		csistoragecapacity.Kind(),
		storageclass.Kind(),
		volumeattachment.Kind(),
		volumeattributesclass.Kind(),
	}
}
