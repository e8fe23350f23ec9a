// Package plugins holds the scheduler's rules, one per file: which nodes a Pod may go to, and which of them is
// best.
//
// Names, rules and messages are those of the Kubernetes v1.37 plugins of the same names.
package plugins

// The names of the plugins, as configuration files use them.
const (
	SchedulingGatesName      = "SchedulingGates"
	PrioritySortName         = "PrioritySort"
	NodeNameName             = "NodeName"
	NodeUnschedulableName    = "NodeUnschedulable"
	TaintTolerationName      = "TaintToleration"
	NodeAffinityName         = "NodeAffinity"
	NodePortsName            = "NodePorts"
	NodeResourcesFitName     = "NodeResourcesFit"
	BalancedAllocationName   = "NodeResourcesBalancedAllocation"
	ImageLocalityName        = "ImageLocality"
	VolumeRestrictionsName   = "VolumeRestrictions"
	NodeVolumeLimitsName     = "NodeVolumeLimits"
	VolumeZoneName           = "VolumeZone"
	VolumeBindingName        = "VolumeBinding"
	InterPodAffinityName     = "InterPodAffinity"
	PodTopologySpreadName    = "PodTopologySpread"
	DefaultPreemptionName    = "DefaultPreemption"
	NodeDeclaredFeaturesName = "NodeDeclaredFeatures"
	DefaultBinderName        = "DefaultBinder"
)
