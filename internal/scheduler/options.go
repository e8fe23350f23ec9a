package scheduler

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/scheduler/election"
	"podium.dev/podium/internal/scheduler/plugins"
	"podium.dev/podium/internal/scheduler/profile"
)

// Options configure a scheduler. The zero value has Kubernetes' defaults.
type Options struct {
	// Clock defaults to the real clock.
	Clock clock.Clock
	// Profiles are the scheduler names that are served. None means default-scheduler with the default plugins.
	Profiles []ProfileOptions
	// PercentageOfNodesToScore is the percentage of the nodes that fit to be scored. 0 chooses by the size of
	// the cluster. A profile can override it.
	PercentageOfNodesToScore int
	// Election, if set, lets only one of several schedulers decide at a time. Its client and clock are replaced
	// by the scheduler's.
	Election *election.Config
	// InitialBackoff and MaxBackoff bound the pause before a refused Pod is tried again. Zero means 1 s and 10
	// s.
	InitialBackoff, MaxBackoff time.Duration
}

// ProfileOptions configure the decisions on the Pods of one scheduler name.
type ProfileOptions struct {
	SchedulerName            string
	PercentageOfNodesToScore *int
	// Plugins are in the order in which they run. Nil means the default plugins.
	Plugins []PluginOptions
}

// PluginOptions are a plugin's name, the weight of its scores, the points at which it takes no part, and its
// settings. Settings have a type of k8s.io/kube-scheduler/config/v1; nil means the defaults.
type PluginOptions struct {
	Name    string
	Weight  int64
	Without profile.Point
	Args    any
}

// DefaultPlugins returns the plugins of Kubernetes' default profile that Podium has, with their weights.
func DefaultPlugins() []PluginOptions { return slices.Clone(defaultPlugins) }

var defaultPlugins = []PluginOptions{
	{Name: plugins.SchedulingGatesName},
	{Name: plugins.PrioritySortName},
	{Name: plugins.NodeNameName},
	{Name: plugins.NodeUnschedulableName},
	{Name: plugins.TaintTolerationName, Weight: 3},
	{Name: plugins.NodeAffinityName, Weight: 2},
	{Name: plugins.NodePortsName},
	{Name: plugins.NodeResourcesFitName, Weight: 1},
	{Name: plugins.VolumeRestrictionsName},
	{Name: plugins.NodeVolumeLimitsName},
	{Name: plugins.VolumeBindingName},
	{Name: plugins.VolumeZoneName},
	{Name: plugins.PodTopologySpreadName, Weight: 2},
	{Name: plugins.InterPodAffinityName, Weight: 2},
	{Name: plugins.DefaultPreemptionName},
	{Name: plugins.BalancedAllocationName, Weight: 1},
	{Name: plugins.ImageLocalityName, Weight: 1},
	{Name: plugins.DefaultBinderName},
	{Name: plugins.NodeDeclaredFeaturesName},
}

// buildProfiles builds the profiles of the options.
func (s *Scheduler) buildProfiles(options Options) error {
	all := options.Profiles
	if len(all) == 0 {
		all = []ProfileOptions{{SchedulerName: corev1.DefaultSchedulerName}}
	}
	for _, o := range all {
		if o.SchedulerName == "" {
			o.SchedulerName = corev1.DefaultSchedulerName
		}
		if s.profiles[o.SchedulerName] != nil {
			return fmt.Errorf("profile %q is given twice", o.SchedulerName)
		}
		wanted := o.Plugins
		if wanted == nil {
			wanted = defaultPlugins
		}
		percentage := options.PercentageOfNodesToScore
		if o.PercentageOfNodesToScore != nil {
			percentage = *o.PercentageOfNodesToScore
		}
		enabled := make([]profile.Enabled, 0, len(wanted))
		for _, w := range wanted {
			plugin, err := plugins.New(w.Name, w.Args, plugins.Dependencies{
				Client: s.client, Namespaces: s.sources, Volumes: s.sources, Siblings: s.sources.siblings, Budgets: s.sources.budgets, Preempt: s.preempt,
			})
			if err != nil {
				return fmt.Errorf("profile %q: %w", o.SchedulerName, err)
			}
			enabled = append(enabled, profile.Enabled{Plugin: plugin, Weight: w.Weight, Without: w.Without})
		}
		p, err := profile.New(o.SchedulerName, percentage, s.nominated, enabled)
		if err != nil {
			return err
		}
		s.profiles[o.SchedulerName] = p
		if s.first == nil {
			s.first = p
		}
	}
	return nil
}
