package pod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/registry"
	"podium.dev/podium/internal/registry/httpproxy"
	"podium.dev/podium/internal/registry/pod/change"
)

// subresources are what can be done with a Pod beside changing it and its status.
func subresources(env registry.Env, d registry.Definition[*corev1.Pod], clock clock.PassiveClock) map[string]rest.Storage {
	status := registry.NewSubresource(env, nil, d, *d.Status)
	target := reach{pods: env.Store, nodes: env.Nodes}
	stream := streamer{reach: target, authorizer: env.Authorizer}
	return map[string]rest.Storage{
		"ephemeralcontainers": registry.NewSubresource(env, nil, d, registry.SubresourceRules[*corev1.Pod]{
			PrepareUpdate: prepareEphemeralContainers, ValidateUpdate: validateUpdate(change.EphemeralContainers), ResetFields: [][]string{},
		}),
		"resize": registry.NewSubresource(env, nil, d, registry.SubresourceRules[*corev1.Pod]{
			PrepareUpdate: prepareResize, ValidateUpdate: validateUpdate(change.Resize), ResetFields: [][]string{},
		}),
		"binding":     &bindingREST{store: env.Store, clock: clock},
		"eviction":    &evictionREST{pods: env.Store, status: status, lookup: env.Lookup, clock: clock},
		"log":         &logREST{target},
		"exec":        &execREST{stream},
		"attach":      &attachREST{stream},
		"portforward": &portForwardREST{stream},
		"proxy":       httpproxy.New(&corev1.PodProxyOptions{}, address{pods: env.Store, transport: httpproxy.PodTransport()}.locate),
	}
}
