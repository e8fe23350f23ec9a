package podautoscaler

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	discoverycache "k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	scaleclient "k8s.io/client-go/scale"
	resourceclient "k8s.io/metrics/pkg/client/clientset/versioned/typed/metrics/v1beta1"
	"k8s.io/metrics/pkg/client/custom_metrics"
	"k8s.io/metrics/pkg/client/external_metrics"
)

// requestTimeout is how long a scale or a metric may take to be read, so that an aggregated API that does not answer
// holds up no more than the autoscalers that need it.
const requestTimeout = 10 * time.Second

// Clients are the clients of what autoscalers read besides the shared informers. They read nothing until they are used.
type Clients struct {
	mapper    meta.ResettableRESTMapper
	scales    scaleclient.ScalesGetter
	resources resourceclient.PodMetricsesGetter
	custom    custom_metrics.CustomMetricsClient
	versions  custom_metrics.AvailableAPIsGetter
	externals external_metrics.ExternalMetricsClient
}

// NewClients returns clients of the API server.
func NewClients(base *rest.Config) (*Clients, error) {
	cfg := rest.AddUserAgent(rest.CopyConfig(base), "horizontal-pod-autoscaler")
	cfg.QPS = -1
	cfg.Timeout = requestTimeout
	cfg.WarningHandler = rest.NoWarnings{}
	served, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("create a discovery client: %w", err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(discoverycache.NewMemCacheClient(served))
	c := &Clients{mapper: mapper, versions: custom_metrics.NewAvailableAPIsGetter(served)}
	c.custom = custom_metrics.NewForConfig(rest.CopyConfig(cfg), mapper, c.versions)
	if c.scales, err = scaleclient.NewForConfig(rest.CopyConfig(cfg), mapper, dynamic.LegacyAPIPathResolverFunc, scaleclient.NewDiscoveryScaleKindResolver(served)); err != nil {
		return nil, fmt.Errorf("create a client of scales: %w", err)
	}
	if c.resources, err = resourceclient.NewForConfig(cfg); err != nil {
		return nil, fmt.Errorf("create a client of the resource metrics: %w", err)
	}
	if c.externals, err = external_metrics.NewForConfig(rest.CopyConfig(cfg)); err != nil {
		return nil, fmt.Errorf("create a client of the external metrics: %w", err)
	}
	return c, nil
}
