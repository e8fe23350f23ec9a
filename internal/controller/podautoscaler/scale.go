package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	scaleclient "k8s.io/client-go/scale"
	"k8s.io/utils/clock"
)

// scales reads and writes the scale subresources of targets.
type scales interface {
	get(ctx context.Context, namespace string, ref autoscalingv2.CrossVersionObjectReference) (scale, error)
	set(ctx context.Context, s scale, replicas int32) error
}

// scale is the scale of a target and the resource that it is of.
type scale struct {
	resource schema.GroupResource
	object   *autoscalingv1.Scale
}

// anyScale serves every kind that discovery knows.
type anyScale struct {
	client scaleclient.ScalesGetter
	mapper meta.ResettableRESTMapper
	clock  clock.PassiveClock

	mu    sync.Mutex
	reset time.Time // when discovery was last asked again
}

func newAnyScale(c *Clients, clk clock.PassiveClock) *anyScale {
	return &anyScale{client: c.scales, mapper: c.mapper, clock: clk}
}

func (s *anyScale) get(ctx context.Context, namespace string, ref autoscalingv2.CrossVersionObjectReference) (scale, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return scale{}, err
	}
	mappings, err := s.mappings(schema.GroupKind{Group: gv.Group, Kind: ref.Kind})
	if err != nil {
		return scale{}, err
	}
	first := errors.New("unrecognized resource")
	for i, m := range mappings {
		resource := m.Resource.GroupResource()
		object, err := s.client.Scales(namespace).Get(ctx, resource, ref.Name, metav1.GetOptions{})
		if err == nil {
			return scale{resource, object}, nil
		}
		if i == 0 {
			first = err
		}
	}
	return scale{}, first
}

// mappings returns the resources of a kind. A kind that is unknown is looked for again, but not more often than
// autoscalers are decided about.
func (s *anyScale) mappings(kind schema.GroupKind) ([]*meta.RESTMapping, error) {
	found, err := s.mapper.RESTMappings(kind)
	if !meta.IsNoMatchError(err) {
		return found, err
	}
	s.mu.Lock()
	again := s.clock.Since(s.reset) >= period
	if again {
		s.reset = s.clock.Now()
	}
	s.mu.Unlock()
	if !again {
		return nil, err
	}
	s.mapper.Reset()
	return s.mapper.RESTMappings(kind)
}

// set writes the number of replicas. If someone else changes the target at the same time, it is written again.
func (s *anyScale) set(ctx context.Context, to scale, replicas int32) error {
	client := s.client.Scales(to.object.Namespace)
	object := to.object.DeepCopy()
	for try := 1; ; try++ {
		object.Spec.Replicas = replicas
		_, err := client.Update(ctx, to.resource, object, metav1.UpdateOptions{})
		if err == nil || !apierrors.IsConflict(err) || try == writeTries {
			return err
		}
		newer, gerr := client.Get(ctx, to.resource, object.Name, metav1.GetOptions{})
		if gerr != nil {
			return fmt.Errorf("%w; read it again: %w", err, gerr)
		}
		object = newer
	}
}
