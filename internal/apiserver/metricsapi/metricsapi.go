// Package metricsapi serves metrics.k8s.io: what nodes and containers use of cpu and memory, for kubectl top and for all that
// reads that API. The nodes are asked when a client asks, and nothing is sampled when nobody does. What is answered, and
// its words, are those of the metrics server that clusters add for it.
package metricsapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/klog/v2"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/apistore"
	"podium.dev/podium/internal/registry/kit"
)

// Config is what the stores are made of.
type Config struct {
	Stores apistore.Stores
	Nodes  kit.NodeConnector
	Clock  clock.WithDelayedExecution
}

// Group returns the API group metrics.k8s.io, which comes last in discovery.
func Group() kit.Group {
	return kit.Group{
		Name:     metricsv1beta1.GroupName,
		Versions: []kit.Version{{GroupVersion: metricsv1beta1.SchemeGroupVersion, AddToScheme: metricsv1beta1.AddToScheme}},
	}
}

// Storage returns the stores of metrics.k8s.io by their paths.
func Storage(c Config) map[schema.GroupVersion]map[string]rest.Storage {
	s := newSampler(fetcher(c.Nodes, c.Clock), c.Clock)
	return map[schema.GroupVersion]map[string]rest.Storage{
		metricsv1beta1.SchemeGroupVersion: {
			"nodes": &nodeStore{stores: c.Stores, sampler: s},
			"pods":  &podStore{stores: c.Stores, sampler: s},
		},
	}
}

// maxAsked is how many nodes are asked at a time.
const maxAsked = 32

// ask asks the nodes, several at a time. Those that do not answer are left out, which is logged; when none does,
// that is an error.
func (s *sampler) ask(ctx context.Context, nodes []string) (map[string]window, error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed []error
	found := map[string]window{}
	slots := make(chan struct{}, maxAsked)
	for _, name := range nodes {
		slots <- struct{}{}
		wg.Go(func() {
			w, err := s.window(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, fmt.Errorf("ask node %s what is used: %w", name, err))
			} else {
				found[name] = w
			}
			<-slots
		})
	}
	wg.Wait()
	for _, err := range failed {
		klog.FromContext(ctx).Info("A node does not tell what is used", "err", err)
	}
	if len(found) == 0 && len(failed) > 0 {
		return nil, apierrors.NewServiceUnavailable(errors.Join(failed...).Error())
	}
	return found, nil
}

// list is a use as the API has it.
func (u use) list() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(u.nanoCores, resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(u.memory, resource.BinarySI),
	}
}

// rounded is a window as it is shown: to a millisecond.
func rounded(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
