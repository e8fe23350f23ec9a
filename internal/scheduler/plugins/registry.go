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
	// Siblings returns a selector of the Pods with the same services and owner as the Pod.
	Siblings func(*corev1.Pod) labels.Selector
	// Budgets returns all disruption budgets.
	Budgets func() []*policyv1.PodDisruptionBudget
	// Preempt carries out a preemption in the background.
	Preempt func(Preemption)
}

// New returns the plugin of the name. args are its settings, of its type in k8s.io/kube-scheduler/config/v1;
// nil means the defaults.
func New(name string, args any, d Dependencies) (framework.Plugin, error) {
	if plugin, err := withSettings(name, args, d); plugin != nil || err != nil {
		return plugin, err
	}
	if args != nil {
		return nil, fmt.Errorf("the scheduler plugin %q has no settings", name)
	}
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
	case NodePortsName:
		return NodePorts{}, nil
	case VolumeRestrictionsName:
		return &VolumeRestrictions{Volumes: d.Volumes}, nil
	case NodeVolumeLimitsName:
		return &NodeVolumeLimits{Volumes: d.Volumes}, nil
	case VolumeZoneName:
		return &VolumeZone{Volumes: d.Volumes}, nil
	case NodeDeclaredFeaturesName:
		return NodeDeclaredFeatures{}, nil
	case ImageLocalityName:
		return ImageLocality{}, nil
	case DefaultBinderName:
		return DefaultBinder{Client: d.Client}, nil
	}
	return nil, fmt.Errorf("unknown scheduler plugin %q", name)
}
