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

// Options are how a scheduler works; the zero value is Kubernetes' default.
type Options struct {
	// Clock is the real one when nil.
	Clock clock.Clock
	// Profiles are the scheduler names that are served; none means default-scheduler with the default
	// plugins.
	Profiles []ProfileOptions
	// PercentageOfNodesToScore is how many of the nodes that fit are scored; 0 chooses by the size of the
	// cluster. A profile may say otherwise.
	PercentageOfNodesToScore int
	// Election, when set, has only one of several schedulers decide at a time. Its client and clock are the
	// scheduler's.
	Election *election.Config
	// InitialBackoff and MaxBackoff bound the pause before a refused Pod is tried again; zero means 1 s and
	// 10 s.
	InitialBackoff, MaxBackoff time.Duration
}

// ProfileOptions are how the Pods of one scheduler name are decided on.
type ProfileOptions struct {
	SchedulerName            string
	PercentageOfNodesToScore *int
	// Plugins are in the order in which they are asked; nil means the default ones.
	Plugins []PluginOptions
}

// PluginOptions is a plugin by its name, the weight of its scores, where it takes no part, and its settings,
// of a type of k8s.io/kube-scheduler/config/v1; nil means the default ones.
type PluginOptions struct {
	Name    string
	Weight  int64
	Without profile.Point
	Args    any
}

// DefaultPlugins answers with the plugins of Kubernetes' default profile that there are, with their weights.
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

// buildProfiles makes the profiles.
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
