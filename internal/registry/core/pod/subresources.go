package pod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/registry/core/pod/change"
	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/httpproxy"
)

// subresources are what can be done with a Pod besides changing it and its status.
func subresources(env kit.Env, d kit.Definition[*corev1.Pod], clock clock.PassiveClock) map[string]rest.Storage {
	status := kit.NewSubresource(env, nil, d, *d.Status)
	target := reach{pods: env.Store, nodes: env.Nodes}
	stream := streamer{reach: target, authorizer: env.Authorizer}
	return map[string]rest.Storage{
		"ephemeralcontainers": kit.NewSubresource(env, nil, d, kit.SubresourceRules[*corev1.Pod]{
			PrepareUpdate: prepareEphemeralContainers, ValidateUpdate: validateUpdate(change.EphemeralContainers), ResetFields: [][]string{},
		}),
		"resize": kit.NewSubresource(env, nil, d, kit.SubresourceRules[*corev1.Pod]{
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
