package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"podium.dev/podium/internal/scheduler/framework"
)

// withSettings returns a plugin that has settings, or nil for any other plugin.
func withSettings(name string, args any, d Dependencies) (framework.Plugin, error) {
	switch name {
	case NodeResourcesFitName:
		return configure(name, args, newFit)
	case BalancedAllocationName:
		return configure(name, args, newBalanced)
	case NodeAffinityName:
		return configure(name, args, newNodeAffinity)
	case InterPodAffinityName:
		return configure(name, args, func(a *configv1.InterPodAffinityArgs) (framework.Plugin, error) {
			p := &InterPodAffinity{Namespaces: d.Namespaces, HardWeight: 1, IgnoreExisting: a.IgnorePreferredTermsOfExistingPods}
			if w := a.HardPodAffinityWeight; w != nil {
				if *w < 0 || *w > 100 {
					return nil, fmt.Errorf("hardPodAffinityWeight: %d is not in the range 0 to 100", *w)
				}
				p.HardWeight = int64(*w)
			}
			return p, nil
		})
	case PodTopologySpreadName:
		return configure(name, args, func(a *configv1.PodTopologySpreadArgs) (framework.Plugin, error) {
			return newSpread(a, d)
		})
	case DefaultPreemptionName:
		return configure(name, args, func(a *configv1.DefaultPreemptionArgs) (framework.Plugin, error) {
			p := &DefaultPreemption{Budgets: d.Budgets, Carry: d.Preempt}
			if a.MinCandidateNodesAbsolute != nil {
				p.Least = int(*a.MinCandidateNodesAbsolute)
			}
			if a.MinCandidateNodesPercentage != nil {
				p.Share = int(*a.MinCandidateNodesPercentage)
			}
			if p.Least < 0 || p.Share < 0 || p.Share > 100 {
				return nil, fmt.Errorf("minCandidateNodesAbsolute %d or minCandidateNodesPercentage %d is out of range", p.Least, p.Share)
			}
			return p, nil
		})
	case VolumeBindingName: // its settings concern the binding of claims, which Podium's plugin does not do
		return configure(name, args, func(*configv1.VolumeBindingArgs) (framework.Plugin, error) {
			return &VolumeBinding{Volumes: d.Volumes}, nil
		})
	}
	return nil, nil
}

// configure builds a plugin from settings of type T, or from the zero T if there are none.
func configure[T any](name string, args any, build func(*T) (framework.Plugin, error)) (framework.Plugin, error) {
	settings := new(T)
	if args != nil {
		var ok bool
		if settings, ok = args.(*T); !ok {
			return nil, fmt.Errorf("the settings of scheduler plugin %q have type %T, want %T", name, args, settings)
		}
	}
	plugin, err := build(settings)
	if err != nil {
		return nil, fmt.Errorf("the settings of scheduler plugin %q: %w", name, err)
	}
	return plugin, nil
}

func newFit(a *configv1.NodeResourcesFitArgs) (framework.Plugin, error) {
	f := NodeResourcesFit{Strategy: LeastAllocated(cpuAndMemory), Ignored: sets.New(a.IgnoredResources...), IgnoredGroups: sets.New(a.IgnoredResourceGroups...)}
	s := a.ScoringStrategy
	if s == nil {
		return f, nil
	}
	resources, err := weighted(s.Resources)
	if err != nil {
		return nil, fmt.Errorf("scoringStrategy.resources: %w", err)
	}
	switch s.Type {
	case configv1.LeastAllocated, "":
		f.Strategy = LeastAllocated(resources)
	case configv1.MostAllocated:
		f.Strategy = MostAllocated(resources)
	case configv1.RequestedToCapacityRatio:
		if s.RequestedToCapacityRatio == nil || len(s.RequestedToCapacityRatio.Shape) == 0 {
			return nil, fmt.Errorf("scoringStrategy.requestedToCapacityRatio.shape: at least one point is required")
		}
		shape, err := readShape(s.RequestedToCapacityRatio.Shape)
		if err != nil {
			return nil, fmt.Errorf("scoringStrategy.requestedToCapacityRatio.shape: %w", err)
		}
		f.Strategy = RequestedToCapacityRatio(resources, shape)
	default:
		return nil, fmt.Errorf("scoringStrategy.type: unknown strategy %q", s.Type)
	}
	return f, nil
}

// worstToBest is the range of scores in a shape.
const worstToBest = 10

func readShape(in []configv1.UtilizationShapePoint) ([]ShapePoint, error) {
	var out []ShapePoint
	for i, p := range in {
		switch {
		case p.Utilization < 0 || p.Utilization > 100:
			return nil, fmt.Errorf("point %d: utilization %d is not in the range 0 to 100", i, p.Utilization)
		case i > 0 && p.Utilization <= in[i-1].Utilization:
			return nil, fmt.Errorf("point %d: utilization %d is not larger than that of the previous point", i, p.Utilization)
		case p.Score < 0 || p.Score > worstToBest:
			return nil, fmt.Errorf("point %d: score %d is not in the range 0 to %d", i, p.Score, worstToBest)
		}
		out = append(out, ShapePoint{int64(p.Utilization), int64(p.Score) * framework.MaxScore / worstToBest})
	}
	return out, nil
}

// weighted parses resources and weights. None means CPU and memory with equal weights.
func weighted(in []configv1.ResourceSpec) ([]Weighted, error) {
	if len(in) == 0 {
		return cpuAndMemory, nil
	}
	var out []Weighted
	for _, r := range in {
		w := r.Weight
		if w == 0 {
			w = 1
		}
		if w < 1 || w > 100 {
			return nil, fmt.Errorf("weight %d of %s is not in the range 1 to 100", r.Weight, r.Name)
		}
		out = append(out, Weighted{corev1.ResourceName(r.Name), w})
	}
	return out, nil
}

func newBalanced(a *configv1.NodeResourcesBalancedAllocationArgs) (framework.Plugin, error) {
	resources, err := weighted(a.Resources)
	if err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	return BalancedAllocation{Resources: resources}, nil
}

func newNodeAffinity(a *configv1.NodeAffinityArgs) (framework.Plugin, error) {
	var n NodeAffinity
	if a.AddedAffinity == nil {
		return n, nil
	}
	if a.AddedAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		added, err := framework.NewNodeSelector(&corev1.Pod{Spec: corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: a.AddedAffinity}}})
		if err != nil {
			return nil, fmt.Errorf("addedAffinity: %w", err)
		}
		n.Added = &added
	}
	var err error
	if n.AddedPreferred, err = ReadPreferred(a.AddedAffinity.PreferredDuringSchedulingIgnoredDuringExecution); err != nil {
		return nil, fmt.Errorf("addedAffinity: %w", err)
	}
	return n, nil
}

func newSpread(a *configv1.PodTopologySpreadArgs, d Dependencies) (framework.Plugin, error) {
	t := &PodTopologySpread{Defaults: SystemSpread, SystemDefaults: true, Siblings: d.Siblings}
	switch a.DefaultingType {
	case configv1.SystemDefaulting, "":
		if len(a.DefaultConstraints) > 0 {
			return nil, fmt.Errorf("defaultConstraints: must be empty if defaultingType is System")
		}
	case configv1.ListDefaulting:
		for i, c := range a.DefaultConstraints {
			if c.LabelSelector != nil {
				return nil, fmt.Errorf("defaultConstraints[%d].labelSelector: constraints must not define a selector, as they deduced for each pod", i)
			}
		}
		t.Defaults, t.SystemDefaults = a.DefaultConstraints, false
	default:
		return nil, fmt.Errorf("defaultingType: %q is not System or List", a.DefaultingType)
	}
	return t, nil
}
