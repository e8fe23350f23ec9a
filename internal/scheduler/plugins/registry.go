package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"podium.dev/podium/internal/scheduler/framework"
)

// Dependencies are what plugins need beyond the snapshot.
type Dependencies struct {
	Client     kubernetes.Interface
	Namespaces framework.Namespaces
	Volumes    Volumes
	// Siblings answers with what selects the Pods of the same services and owner as the Pod.
	Siblings func(*corev1.Pod) labels.Selector
	// Budgets answers with all disruption budgets.
	Budgets func() []*policyv1.PodDisruptionBudget
	// Preempt carries a preemption out, beside the decisions.
	Preempt func(Preemption)
}

// New makes a plugin by its name, with default settings.
func New(name string, d Dependencies) (framework.Plugin, error) {
	switch name {
	case SchedulingGatesName:
		return SchedulingGates{}, nil
	case PrioritySortName:
		return PrioritySort{}, nil
	case NodeNameName:
		return NodeName{}, nil
	case NodeUnschedulableName:
		return NodeUnschedulable{}, nil
	case TaintTolerationName:
		return TaintToleration{}, nil
	case NodeAffinityName:
		return NodeAffinity{}, nil
	case NodePortsName:
		return NodePorts{}, nil
	case NodeResourcesFitName:
		return NodeResourcesFit{Strategy: LeastAllocated(cpuAndMemory)}, nil
	case BalancedAllocationName:
		return BalancedAllocation{Resources: cpuAndMemory}, nil
	case ImageLocalityName:
		return ImageLocality{}, nil
	case VolumeRestrictionsName:
		return &VolumeRestrictions{Volumes: d.Volumes}, nil
	case VolumeBindingName:
		return &VolumeBinding{Volumes: d.Volumes}, nil
	case InterPodAffinityName:
		return &InterPodAffinity{Namespaces: d.Namespaces, HardWeight: 1}, nil
	case PodTopologySpreadName:
		return &PodTopologySpread{Defaults: SystemSpread, SystemDefaults: true, Siblings: d.Siblings}, nil
	case DefaultPreemptionName:
		return &DefaultPreemption{Budgets: d.Budgets, Carry: d.Preempt}, nil
	case DefaultBinderName:
		return DefaultBinder{Client: d.Client}, nil
	}
	return nil, fmt.Errorf("there is no scheduler plugin %q", name)
}
