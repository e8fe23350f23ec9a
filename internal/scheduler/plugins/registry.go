package plugins

import (
	"fmt"

	"k8s.io/client-go/kubernetes"

	"podium.dev/podium/internal/scheduler/framework"
)

// Dependencies are what plugins need beyond the snapshot.
type Dependencies struct {
	Client kubernetes.Interface
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
	case DefaultBinderName:
		return DefaultBinder{Client: d.Client}, nil
	}
	return nil, fmt.Errorf("there is no scheduler plugin %q", name)
}
