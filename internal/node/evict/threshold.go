package evict

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// Value is an amount, or a share of the capacity.
type Value struct {
	// Quantity is nil for a share.
	Quantity *resource.Quantity
	// Share is between 0 and 1. It has the precision that the kubelet has, which shows in messages.
	Share float32
}

// ParseValue reads "100Mi" or "10%".
func ParseValue(text string) (Value, error) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(percent, 32)
		if err != nil {
			return Value{}, fmt.Errorf("%q is not a percentage: %w", text, err)
		}
		return Value{Share: float32(p) / 100}, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return Value{}, fmt.Errorf("%q is not a quantity: %w", text, err)
	}
	return Value{Quantity: &q}, nil
}

// Of is the amount when this is the capacity.
func (v Value) Of(capacity resource.Quantity) resource.Quantity {
	if v.Quantity != nil {
		return v.Quantity.DeepCopy()
	}
	return *resource.NewQuantity(int64(float64(capacity.Value())*float64(v.Share)), resource.BinarySI)
}

// Threshold is less of something than the node should have.
type Threshold struct {
	Signal Signal
	Value  Value
	// Grace is how long it may be met before Pods are ended for it: 0 for a hard threshold.
	Grace time.Duration
	// MinReclaim is how much more than Value there must be before a threshold that was met is no longer; nil for no
	// more.
	MinReclaim *Value
}

// Hard reports whether Pods are ended as soon as the threshold is met.
func (t *Threshold) Hard() bool { return t.Grace == 0 }

// quantity is what must be available, reclaim and all if that is asked for.
func (t *Threshold) quantity(o Observation, reclaim bool) resource.Quantity {
	q := t.Value.Of(o.Capacity)
	if reclaim && t.MinReclaim != nil {
		q.Add(t.MinReclaim.Of(o.Capacity))
	}
	return q
}

// met reports whether there is less than the threshold.
func (t *Threshold) met(seen Observations, reclaim bool) bool {
	o, found := seen[t.Signal]
	if !found {
		return false
	}
	q := t.quantity(o, reclaim)
	return q.Cmp(o.Available) > 0
}

// Thresholds reads the thresholds of the settings, hard ones before soft ones of the same signal. 0% and 100% are
// none. The hard threshold of memory.available also holds for all Pods' cgroup where that is enforced.
func Thresholds(k *kubeletconfig.KubeletConfiguration) ([]Threshold, error) {
	var out []Threshold
	for _, list := range []struct {
		name string
		of   map[string]string
		soft bool
	}{{"evictionHard", k.EvictionHard, false}, {"evictionSoft", k.EvictionSoft, true}} {
		for signal, text := range list.of {
			if text == "0%" || text == "100%" {
				continue
			}
			t, err := threshold(k, Signal(signal), text, list.soft)
			if err != nil {
				return nil, fmt.Errorf("%s.%s: %w", list.name, signal, err)
			}
			out = append(out, t)
			if t.Signal == MemoryAvailable && t.Hard() && slices.Contains(k.EnforceNodeAllocatable, "pods") {
				t.Signal = AllocatableMemory
				out = append(out, t)
			}
		}
	}
	slices.SortFunc(out, func(a, b Threshold) int {
		return cmp.Or(cmp.Compare(a.Signal.order(), b.Signal.order()), cmp.Compare(a.Grace, b.Grace))
	})
	return out, nil
}

func threshold(k *kubeletconfig.KubeletConfiguration, signal Signal, text string, soft bool) (Threshold, error) {
	t := Threshold{Signal: signal}
	if !signal.known() {
		return t, fmt.Errorf("unsupported eviction signal %v", signal)
	}
	var err error
	if t.Value, err = ParseValue(text); err != nil {
		return t, err
	}
	if soft {
		if t.Grace, err = time.ParseDuration(k.EvictionSoftGracePeriod[string(signal)]); err != nil {
			return t, fmt.Errorf("grace period must be specified for the soft eviction threshold %v: %w", signal, err)
		}
	}
	if text := k.EvictionMinimumReclaim[string(signal)]; text != "" {
		least, err := ParseValue(text)
		if err != nil {
			return t, fmt.Errorf("minimum reclaim: %w", err)
		}
		t.MinReclaim = &least
	}
	return t, nil
}

// followers are the signals of containers' layers, with those they take their thresholds from.
var followers = []struct{ container, node, image Signal }{
	{ContainerFsAvailable, NodeFsAvailable, ImageFsAvailable},
	{ContainerFsInodesFree, NodeFsInodesFree, ImageFsInodesFree},
}

// For gives the signals of containers' layers the thresholds of the file system that the layers are on, whatever
// the settings say of them: those of images when the layers are with the images on a file system of their own,
// else those of the node.
func For(layout Layout, thresholds []Threshold) []Threshold {
	var out []Threshold
	for _, t := range thresholds {
		if t.Signal != ContainerFsAvailable && t.Signal != ContainerFsInodesFree {
			out = append(out, t)
		}
	}
	for _, f := range followers {
		leader := f.node
		if layout.DedicatedImages && !layout.SplitContainers {
			leader = f.image
		}
		for _, t := range thresholds {
			if t.Signal == leader {
				t.Signal = f.container
				out = append(out, t)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Threshold) int { return cmp.Compare(a.Signal.order(), b.Signal.order()) })
	return out
}
